//! Documents in every format, dirty and clean.

/// A content type, a body and what leaves.
pub(super) const DIRTY: &[(&str, &str, &str)] = &[
    (
        "text/plain",
        "Taro <taro@example.com>, card 4111 1111 1111 1111, tel +81 90-1234-5678.\n",
        "Taro <<EMAIL>>, card <CARD>, tel <PHONE>.\n",
    ),
    (
        "text/plain",
        "山田太郎 マイナンバー：１２３４５６７８９０１８、電話０９０ー１２３４ー５６７８",
        "山田太郎 マイナンバー：<MY_NUMBER>、電話<PHONE>",
    ),
    (
        "text/csv",
        "id,ip,iban\r\n1,192.168.0.1,GB29 NWBK 6016 1331 9268 19\r\n2,2001:db8::1,123-45-6789",
        "id,ip,iban\r\n1,<IP>,<IBAN>\r\n2,<IP>,<SSN>",
    ),
    (
        "application/json",
        r#"{"a":"taro@example.com","n":4111111111111111,"taro@key.com":[1,true,null,-2.5e3,"x"]}"#,
        r#"{"a":"<EMAIL>","n":"<CARD>","taro@key.com":[1,true,null,-2.5e3,"x"]}"#,
    ),
    (
        "application/json",
        r#"{"a":"caf\u00e9 \/ taro\u0040example.com\n","\u30de\u30a4\u30ca\u30f3\u30d0\u30fc":"123456789018"}"#,
        r#"{"a":"caf\u00e9 \/ <EMAIL>\n","\u30de\u30a4\u30ca\u30f3\u30d0\u30fc":"<MY_NUMBER>"}"#,
    ),
    (
        "application/json",
        r#"{"p":"\ud835\udfd2111 1111 1111 111\ud835\udfcf","my_number":123456789018}"#,
        r#"{"p":"<CARD>","my_number":"<MY_NUMBER>"}"#,
    ),
    (
        "application/json",
        r#"{"nested":"{\"mail\":\"taro@example.com\",\"n\":1}"}"#,
        r#"{"nested":"{\"mail\":\"<EMAIL>\",\"n\":1}"}"#,
    ),
    ("application/json", "\u{feff}[\"1.2.3.4\"]", "\u{feff}[\"<IP>\"]"),
    ("application/json", "card 4111 1111 1111 1111", "card <CARD>"),
    ("application/json", "4111 1111 1111 1111 and \"a@b.com\"", "<CARD> and \"<EMAIL>\""),
    (
        "application/json",
        r#"{'a': 'a@b.com', b: "c\u0040d.com"}"#,
        r#"{'a': '<EMAIL>', b: "<EMAIL>"}"#,
    ),
    ("application/json", r#"{"a":"taro@example.com"#, r#"{"a":"<EMAIL>"#),
    (
        "application/x-ndjson",
        "{\"a\":\"a@b.com\"}\n4111111111111111\n\"x\nnot json 1.2.3.4\n{\"ssn\":\"123456789\"}\n",
        "{\"a\":\"<EMAIL>\"}\n\"<CARD>\"\n\"x\nnot json <IP>\n{\"ssn\":\"<SSN>\"}\n",
    ),
    (
        "application/x-www-form-urlencoded",
        "mail=taro%40example.com&tel=+81+90-1234-5678&x=%E3%83%9E&card=4111+1111+1111+1111",
        "mail=%3CEMAIL%3E&tel=%3CPHONE%3E&x=%E3%83%9E&card=%3CCARD%3E",
    ),
    (
        "application/x-www-form-urlencoded",
        "my_number=%EF%BC%91%EF%BC%923456789018&bad=%zz%4&taro%40example.com&a=b=c@d.com",
        "my_number=%3CMY_NUMBER%3E&bad=%zz%4&%3CEMAIL%3E&a=b=%3CEMAIL%3E",
    ),
    (
        "text/event-stream",
        "event: msg\r\ndata: {\"t\":\"a\\u0040b.com\",\r\ndata:  \"n\":4111111111111111}\r\n\r\n: a@b.com\ndata: call 090-1234-5678\n\ndata:[\"1.2.3.4\"]\ndata",
        "event: msg\r\ndata: {\"t\":\"<EMAIL>\",\r\ndata:  \"n\":\"<CARD>\"}\r\n\r\n: <EMAIL>\ndata: call <PHONE>\n\ndata:[\"<IP>\"]\ndata",
    ),
    (
        "multipart/form-data; boundary=XX",
        "--XX\r\nContent-Disposition: form-data; name=\"m\"\r\n\r\ntaro@example.com\r\n--XX\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a@b.com.txt\"\r\nContent-Type: application/json\r\n\r\n{\"a\":\"c\\u0040d.com\"}\r\n--XX\r\nContent-Type: image/png\r\n\r\nx a@b.com\r\n--X\r\n--XX--\r\n",
        "--XX\r\nContent-Disposition: form-data; name=\"m\"\r\n\r\n<EMAIL>\r\n--XX\r\nContent-Disposition: form-data; name=\"f\"; filename=\"<EMAIL>\"\r\nContent-Type: application/json\r\n\r\n{\"a\":\"<EMAIL>\"}\r\n--XX\r\nContent-Type: image/png\r\n\r\nx a@b.com\r\n--X\r\n--XX--\r\n",
    ),
    ("application/octet-stream", " {\"a\":\"b\\u0040c.com\"}", " {\"a\":\"<EMAIL>\"}"),
    ("application/octet-stream", "mail a@b.com", "mail <EMAIL>"),
];

/// A content type and a body that leaves as it came.
pub(super) const CLEAN: &[(&str, &[u8])] = &[
    ("text/plain", b"Nothing here: 12:30, 1.2.3, user@localhost, 0.4111111111111111, foo@"),
    ("text/plain", b"\xFF\xC3\x28 not \xE3\x80 utf-8 \xF0\x9F\x98 4111-1111-1111-1112 \xE3"),
    ("text/html", "<p title=\"あいう\">日本語のテキスト、一二三四。第一章</p>\u{200b}".as_bytes()),
    (
        "application/json",
        b" {\r\n \"a\\u0062\" : [ 1 , -0.5e+10 , \"\\u00e9\\ud83d\\ude00\\/\\\"\\\\\" ] , \"n\":123456789018 } ",
    ),
    ("application/json", b"{\"a\":\"\\ud800\",\"b\":\"\\u12\",\"c\":\"\\q\",\"d\":\"\\"),
    ("application/json", b"[[[[{}]]],\"\",{\"\":\"\"}] 12 \n true"),
    ("application/json", b"not json, 'at' all: \"half \\u00"),
    ("application/x-ndjson", b"{\"a\":1}\r\n\r\n[\n\"open\n}\n"),
    ("application/x-www-form-urlencoded", b"a=1&b=%41%+%zz&&=&c=+%e3%83&d=x+y%"),
    ("text/event-stream", b"\r\n\ndata\ndata:\ndata: {\"a\":\r\ndata: 1}\r\rid: 7\nretry: 10\n\ndat"),
    ("multipart/mixed; boundary=b", b"--b\r\n\r\n\r\n--b\r\nA: b\r\n\r\n--b--\r\ntail\r\n-"),
    ("multipart/mixed; boundary=b", b"preamble\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\nYUBiLmNvbQ==\r"),
    ("application/octet-stream", b"\x89PNG\r\n\x1A\n a@b.com 4111111111111111"),
    ("application/zip", b"PK\x03\x04 taro@example.com"),
    ("text/plain", b""),
];
