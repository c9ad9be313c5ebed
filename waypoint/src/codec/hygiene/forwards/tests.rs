use super::*;

fn headers(values: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(header::MAX_FORWARDS, value.parse().unwrap());
    }
    headers
}

#[test]
fn a_request_that_goes_on_says_one_hop_less_and_one_without_any_ends_here() {
    let cases: [(&[&str], bool, Option<&str>); 10] = [
        (&[], false, None),
        (&["0"], true, Some("0")),
        (&["00"], true, Some("0")),
        (&["1"], false, Some("0")),
        (&["10"], false, Some("9")),
        (&["99999999999999999999"], false, Some("4294967294")),
        (&["-1"], false, None),
        (&["+1"], false, None),
        (&[""], false, None),
        (&["0", "5"], false, None),
    ];
    for (values, ends, passed_on) in cases {
        for method in [Method::OPTIONS, Method::TRACE] {
            let mut headers = headers(values);
            assert_eq!(ends_here(&method, &headers), ends, "{values:?}");
            count_hop(&method, &mut headers);
            let now = headers.get(header::MAX_FORWARDS).map(|value| value.to_str().unwrap());
            assert_eq!(now, passed_on, "{values:?}");
        }
    }
}

#[test]
fn other_methods_are_not_bounded() {
    let mut headers = headers(&["0"]);
    assert!(!ends_here(&Method::GET, &headers));
    count_hop(&Method::GET, &mut headers);
    assert_eq!(headers[header::MAX_FORWARDS], "0");
}
