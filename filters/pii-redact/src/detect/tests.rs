//! One table for each entity: what is found whole, and what is let be.

use crate::body::tests::redact;

/// `[…]` in a case marks what is found.
fn check(label: &str, cases: &[&str]) {
    for case in cases {
        let text: String = case.chars().filter(|char| !matches!(char, '[' | ']')).collect();
        let mut want = String::new();
        for part in case.split('[') {
            match part.split_once(']') {
                Some((_, rest)) => want += &format!("{label}{rest}"),
                None => want += part,
            }
        }
        assert_eq!(redact("text/plain", &text), want, "{case}");
    }
}

#[test]
fn emails_are_found_whole_and_file_names_let_be() {
    check(
        "<EMAIL>",
        &[
            "[taro@example.com]",
            "to [taro.yamada+news@mail.example.co.jp].",
            "<[o'brien_1%x@example.museum]>, '[a@b.io]'",
            "メールは[taro@example.com]まで",
            "email=[taro@example.com]&x=1",
            "mailto:[TARO@EXAMPLE.COM]?subject=x",
            "[ｔａｒｏ＠ｅｘａｍｐｌｅ．ｃｏｍ] です",
            "[ta\u{200b}ro@exam\u{ad}ple.com]",
            "[user@xn--r8jz45g.xn--zckzah]",
            "[a@b.com]-x, [a@b.com].1, [a@b.com]_",
            "\"[first.last@sub.domain.example.org]\"",
            "user@localhost, @example.com, taro@, a@b.c, a@1.2.3",
            "icon@2x.png retina@3x.jpg pkg@1.2.3",
            "a @ b.com, a@ b.com, a@-b.com-",
            "x@y..com",
        ],
    );
}

#[test]
fn an_overlong_local_part_is_found_by_its_last_bytes() {
    let text = format!("{}@example.com", "a".repeat(100));
    assert_eq!(redact("text/plain", &text), format!("{}<EMAIL>", "a".repeat(36)));
}

#[test]
fn cards_of_every_brand_are_found_and_other_numbers_let_be() {
    check(
        "<CARD>",
        &[
            "[4111111111111111]",
            "[4111 1111 1111 1111] exp 12/27",
            "[4111-1111-1111-1111], [4111.1111.1111.1111]",
            "[4111 - 1111 - 1111 - 1111]",
            "[5555555555554444] [2223003122003222] [378282246310005]",
            "[3782 822463 10005] [6011111111111117] [3530111333300000]",
            "[30569309025904] [6200000000000005] [4222222222222]",
            "[5018000000000009] [676770830005] [9792000000000003]",
            "カード番号[４１１１ー１１１１ー１１１１ー１１１１]です",
            "[四一一一一一一一一一一一一一一一]",
            "[4111\u{a0}1111\u{a0}1111\u{a0}1111] [4111\u{200b}1111\u{ad}11111111]",
            "[٤١١١١١١١١١١١١١١١]",
            "2 [4111 1111 1111 1111]",
            "no.[4111111111111111]",
            "4111111111111112 1234567812345670 0000000000000000",
            "0.4111111111111111 x4111111111111111 4111111111111111y",
            "41111111111111111111111111",
            "4111 1111 1111 111",
            "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
            "1700000000000 1700000000000000",
            // A product's number, Luhn or not.
            "4901234567894 4006381333931",
            "4111\n1111\n1111\n1111",
        ],
    );
}

#[test]
fn phones_are_found_in_the_ways_they_are_written() {
    check(
        "<PHONE>",
        &[
            "[+81 90-1234-5678] [+819012345678] [+81 (0)3-1234-5678]",
            "[+81-3-1234-5678], [＋８１ー９０ー１２３４ー５６７８]",
            "[+1 212-555-1234] [+12125551234] [+1 (212) 555-1234] [+1.212.555.1234]",
            "[+44 20 7946 0958] [+49 (0)30 123456] [+33 6 12 34 56 78] [+886 2 1234 5678]",
            "tel:[+442079460958];",
            "[090-1234-5678] [09012345678] [080 1234 5678] [050-1234-5678]",
            "[03-1234-5678] [(03)1234-5678] [03(1234)5678] [(03) 1234-5678]",
            "[045-123-4567] [0422-12-3456] [04992-1-2345] [0120-123-456] [0800-123-4567]",
            "[０３ー１２３４ー５６７８] 電話は[〇九〇一二三四五六七八]です",
            "[212-555-1234] [(212) 555-1234] [212.555.1234] [212 555 1234] [1-212-555-1234]",
            "[06 12 34 56 78] [020 7946 0958] [07700 900123] [07700900123]",
            "[212-555-1234]x99 [03-1234-5678], 2024",
            "tel: [0312345678], TEL.[0312345678], 電話番号：[0312345678], phone [2125551234]",
            "0312345678 2125551234 1700000000 0123456789",
            "2024-01-15 10:30:00 01-02-2024 12:30",
            "192-555-1234 212-055-1234 911-555-1234 212-911-1234",
            "12-090-1234-5678 090-1234-5678-9 090-1234-567",
            "+0901234567 +999 123 4567 +1234 a+819012345678",
            "978-3-16-148410-0 1.2.3 550e8400-e29b-41d4-a716-446655440000",
            "00-1234-5678 0-312-345-678",
        ],
    );
}

#[test]
fn ibans_are_found_whose_length_and_remainder_are_right() {
    check(
        "<IBAN>",
        &[
            "[GB29NWBK60161331926819]",
            "[GB29 NWBK 6016 1331 9268 19] and",
            "[DE89370400440532013000] [de89 3704 0044 0532 0130 00]",
            "[FR1420041010050500013M02606] [NO9386011117947]",
            "[MT84MALT011000012345MTLCAST001S] [CH93-0076-2011-6238-5295-7]",
            "[ＤＥ８９３７０４００４４０５３２０１３０００]",
            "iban:[NL91ABNA0417164300].",
            "GB28NWBK60161331926819 GB29NWBK6016133192681 XX29NWBK60161331926819",
            "GB29NWBK60161331926819A AGB29NWBK60161331926819",
        ],
    );
}

#[test]
fn addresses_of_both_versions_are_found() {
    check(
        "<IP>",
        &[
            "[192.168.0.1] [8.8.8.8]:53 ([10.0.0.1]/8), [255.255.255.255].",
            "ip=[1.2.3.4]&",
            "[2001:db8::1] \\[[2001:0db8:85a3:0000:0000:8a2e:0370:7334]\\]:443",
            "[fe80::1]%eth0 [::1] [::ffff:192.0.2.1] [2001:db8::] client:[2001:db8::1].",
            "[64:ff9b::192.0.2.33] [1:2:3:4:5:6:192.0.2.1] [2001:db8::1]: yes",
            "[１９２．１６８．０．１]",
            "256.1.1.1 1.2.3 1.2.3.4.5 01.2.3.4 v1.2.3.4 1.2.3.4a",
            "12:34:56 00:1a:2b:3c:4d:5e std::vec::Vec a::b abc::def :: a::before",
            "AB:CD:EF:01:23:45:67:89:AB:CD:EF:01 1:2:3:4:5:6:7:8:9 1::2::3 12345::1",
            "2024-01-01T12:34:56Z key: value, 10:30",
        ]
        .map(|case| case.replace("\\[", "\u{1}").replace("\\]", "\u{2}"))
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>(),
    );
}

#[test]
fn social_security_numbers_are_found_unless_never_given_out() {
    check(
        "<SSN>",
        &[
            "[123-45-6789] [123 45 6789] [899-99-9999], [１２３－４５－６７８９]",
            "SSN [123456789], ssn=[123456789]; userSsn: [123456789]",
            "Social Security Number: [123456789]",
            "000-12-3456 666-12-3456 900-12-3456 999-12-3456 123-00-4567 123-45-0000",
            "123456789 classname 123456789 123-456-789 1234-56-789",
            "1-123-45-6789 123-45-6789-0 123-45-67890 a123-45-6789",
        ],
    );
}

#[test]
fn my_numbers_are_found_only_beside_their_name() {
    check(
        "<MY_NUMBER>",
        &[
            "マイナンバー：[123456789018]",
            "個人番号 [1234-5678-9018], 個人番号は[１２３４　５６７８　９０１８]です",
            "my number is [123456789018]; MyNumber=[123456789018]",
            "[123456789018]（マイナンバー）",
            "ﾏｲﾅﾝﾊﾞｰ [123456789018]",
            "マイナンバー：[一二三四五六七八九〇一八]",
            "マイナンバー：123456789019, 1234567890188, 12-3456789018",
        ],
    );
    check("", &["order 123456789018", "法人番号 123456789018"]);
}

#[test]
fn a_name_too_far_away_is_no_context() {
    let near = format!("マイナンバー{}123456789018", "。".repeat(30));
    let far = format!("マイナンバー{}123456789018", "。".repeat(50));
    assert!(redact("text/plain", &near).ends_with("<MY_NUMBER>"));
    assert_eq!(redact("text/plain", &far), far);
}

#[test]
fn the_longest_of_several_matches_wins_and_overlaps_go_as_one() {
    assert_eq!(redact("text/plain", "090-1234-5678@docomo.ne.jp"), "<EMAIL>");
    assert_eq!(redact("text/plain", "a@b.com@c.org!"), "<EMAIL>!");
    assert_eq!(redact("text/plain", "GB29NWBK60161331926819@b.com"), "<EMAIL>");
}

#[test]
fn prose_code_and_data_without_personal_data_are_let_be() {
    check(
        "",
        &[
            "The quick brown fox jumps over 13 lazy dogs; see section 4.2.1 (page 1,024).",
            "fn main() { let x: Vec<u8> = std::iter::repeat(0xFF).take(16).collect(); }",
            "2024-05-01T10:15:30.123456789Z INFO [main] took 1234567890123 ns, id=9f86d081884c7d65",
            "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "商品コード 4901234567894、価格は12,345円です。第三章、二〇二四年五月。",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9",
            "lat 35.681236, lon 139.767125, 0.4532015112830366, -1.7976931348623157e308",
        ]
        .map(|case| case.replace('[', "(").replace(']', ")"))
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>(),
    );
}
