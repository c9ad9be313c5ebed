//! The filter as a host sees it.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::{Duration, SystemTime};

use waypoint_sdk::Flow::{Continue, Pause};
use waypoint_sdk::RequestId;
use waypoint_sdk::testing::{Reply, Tester, with};

use crate::filter::JwtAuth;
use crate::remote::WAITING_MAX;
use crate::testing::{EC, OKP, RSA, answer_verify_signature, sign, sign_es256};

const NOW: u64 = 1_300_819_000;
const CLAIMS: &str = r#"{"iss": "joe", "exp": 1300819380, "sub": "u1", "org": {"id": 7}}"#;
const MAPPED: &str = r#""claimsToHeaders": [
    {"claim": "sub", "header": "X-User"},
    {"claim": "org.id", "header": "x-org"},
    {"claim": "none", "header": "x-none"}
]"#;

fn inline(more: &str) -> String {
    format!(r#"{{"issuers": [{{"issuer": "joe", "jwks": {{"keys": [{OKP}, {EC}]}}}}], {more}}}"#)
}

fn remote() -> String {
    r#"{"issuers": [{"issuer": "joe", "jwksUri": {
        "upstream": "keys.auth:8080", "path": "/jwks.json",
        "cacheDuration": "10m", "maxAge": "1h", "coolDown": "30s"
    }}]}"#
        .to_owned()
}

fn start(config: &str) -> Tester<JwtAuth> {
    Tester::start_with(config, |host| {
        host.now = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW));
        for name in ["waypoint_ready", "clear_route_cache"] {
            host.foreign(name, |_| Ok(Vec::new()));
        }
    })
    .unwrap()
}

/// Both clocks.
fn pass_time(seconds: u64) {
    with(|host| {
        host.uptime += Duration::from_secs(seconds);
        host.now = host.now.map(|now| now + Duration::from_secs(seconds));
    });
}

fn token(kid: Option<&str>) -> String {
    let kid = kid.map_or(String::new(), |kid| format!(", \"kid\": \"{kid}\""));
    sign(&format!("{{\"alg\": \"EdDSA\"{kid}}}"), CLAIMS)
}

fn send(tester: &mut Tester<JwtAuth>, head: &[(&str, &str)]) -> (RequestId, u16) {
    let id = tester.open();
    let path =
        if head.iter().any(|(name, _)| *name == ":path") { &[][..] } else { &[(":path", "/")] };
    let head = [&[(":method", "GET")], path, head].concat();
    let flow = tester.request_headers(id, &head, true);
    let status = if flow == Continue { 200 } else { status(tester, id) };
    assert_eq!(flow == Continue, status == 200, "what passes is not answered, too");
    (id, status)
}

/// What became of a request that did not pass at once: 0 while it is held.
fn status(tester: &Tester<JwtAuth>, id: RequestId) -> u16 {
    let stream = tester.stream(id);
    match stream.reply {
        Some(reply) => reply.status,
        None if stream.request_resumed == 0 => 0,
        None => 200,
    }
}

fn send_token(tester: &mut Tester<JwtAuth>, token: &str) -> (RequestId, u16) {
    send(tester, &[("authorization", &format!("Bearer {token}"))])
}

fn header(tester: &Tester<JwtAuth>, id: RequestId, name: &str) -> Option<String> {
    let headers = tester.stream(id).request_headers;
    let (_, value) = headers.into_iter().find(|(key, _)| key == name)?;
    Some(String::from_utf8(value).unwrap())
}

fn reply(tester: &Tester<JwtAuth>, id: RequestId) -> Reply {
    tester.stream(id).reply.unwrap()
}

fn calls() -> usize {
    with(|host| host.calls.len())
}

fn metric(name: &str) -> u64 {
    with(|host| host.metrics[name])
}

fn answer_keys(tester: &mut Tester<JwtAuth>, jwks: &[&str]) {
    let body = format!("{{\"keys\": [{}]}}", jwks.join(", "));
    tester.answer(&[(":status", "200")], body.as_bytes());
}

fn named(kid: &str) -> String {
    OKP.replacen('{', &format!("{{\"kid\": \"{kid}\", "), 1)
}

#[test]
fn a_request_passes_with_one_good_bearer_token_only() {
    let good = token(None);
    let bearer = format!("Bearer {good}");
    let (lower, spaced) = (format!("bearer {good}"), format!("Bearer  {good} "));
    let two = format!("Bearer {good}, Bearer {good}");
    let other =
        format!("Bearer {}", sign(r#"{"alg": "EdDSA"}"#, r#"{"iss": "jim", "exp": 1300819380}"#));
    let invalid = |said: &str| {
        format!("Bearer realm=\"waypoint\", error=\"invalid_token\", error_description=\"{said}\"")
    };
    let plain = "Bearer realm=\"waypoint\"".to_owned();
    let malformed = invalid("The token is malformed");
    let cases: [(&[&str], Result<(), String>); 10] = [
        (&[&bearer], Ok(())),
        (&[&lower], Ok(())),
        (&[&spaced], Ok(())),
        (&[], Err(plain.clone())),
        (&["Basic dTpw"], Err(plain)),
        (&["Bearer"], Err(malformed.clone())),
        (&["Bearer a b"], Err(malformed.clone())),
        (&[&two], Err(malformed.clone())),
        (&[&bearer, &bearer], Err(malformed)),
        (&[&other], Err(invalid("The token's issuer is not accepted"))),
    ];
    for (values, want) in cases {
        let mut tester = start(&inline(r#""forwardToken": true"#));
        let head: Vec<_> = values.iter().map(|value| ("authorization", *value)).collect();
        let (id, status) = send(&mut tester, &head);
        match want {
            Ok(()) => assert!(tester.stream(id).reply.is_none(), "{values:?}"),
            Err(challenge) => {
                assert_eq!(status, 401, "{values:?}");
                let reply = reply(&tester, id);
                assert_eq!(
                    reply.header("www-authenticate"),
                    Some(challenge.as_str()),
                    "{values:?}"
                );
            }
        }
    }
}

#[test]
fn headers_made_of_claims_are_only_ever_ours() {
    let spoofed = [("x-user", "root"), ("x-org", "0"), ("x-none", "1"), ("x-user", "admin")];
    let config = inline(&format!(r#"{MAPPED}, "allowMissing": true, "skipPaths": ["/open/*"]"#));
    let mut tester = start(&config);
    let bearer = format!("Bearer {}", token(None));
    for _cached in [false, true] {
        let head = [&spoofed[..], &[("authorization", &bearer)]].concat();
        let (id, _) = send(&mut tester, &head);
        assert_eq!(header(&tester, id, "x-user").as_deref(), Some("u1"));
        assert_eq!(header(&tester, id, "x-org").as_deref(), Some("7"));
        assert_eq!(header(&tester, id, "x-none"), None);
        assert_eq!(header(&tester, id, "authorization"), None, "the token is not forwarded");
    }
    assert_eq!(metric("jwt_auth_cache_hits"), 1);
    let refused = ("authorization", "Bearer x");
    for (more, want) in [(&[][..], 200), (&[refused][..], 401), (&[(":path", "/open/x")][..], 200)]
    {
        let (id, status) = send(&mut tester, &[&spoofed[..], more].concat());
        assert_eq!(status, want);
        for name in ["x-user", "x-org", "x-none"] {
            assert_eq!(header(&tester, id, name), None, "{name} with {more:?}");
        }
    }
}

#[test]
fn a_path_is_skipped_only_if_nobody_can_read_another_one_in_it() {
    let config = inline(r#""skipPaths": ["/healthz", "/open/*"]"#);
    let cases = [
        ("/healthz", 200),
        ("/healthz?x=/../", 200),
        ("/open/a/b", 200),
        ("/open", 401),
        ("/openx", 401),
        ("/healthz/", 401),
        ("/Healthz", 401),
        ("/open/../private", 401),
        ("/open/./private", 401),
        ("/open//private", 401),
        ("/open/%2e%2e/private", 401),
        ("/open/..;/private", 401),
        ("/open/a;b", 401),
        ("/open\\..\\private", 401),
        ("//open/a", 401),
    ];
    for (path, want) in cases {
        let mut tester = start(&config);
        assert_eq!(send(&mut tester, &[(":path", path)]).1, want, "{path}");
    }
}

#[test]
fn a_token_is_verified_once_and_never_passes_beyond_its_time() {
    let mut tester = start(&inline(r#""clockSkew": "0s""#));
    with(|host| host.foreign("verify_signature", answer_verify_signature));
    let token = sign_es256(r#"{"alg": "ES256"}"#, CLAIMS);
    let asked = || {
        with(|host| {
            host.foreign_calls.iter().filter(|(name, _)| name == "verify_signature").count()
        })
    };
    for _ in 0..3 {
        assert_eq!(send_token(&mut tester, &token).1, 200);
    }
    assert_eq!(asked(), 1);
    pass_time(379);
    assert_eq!(send_token(&mut tester, &token).1, 200);
    pass_time(1);
    for _ in 0..2 {
        let (id, status) = send_token(&mut tester, &token);
        assert_eq!(status, 401);
        assert_eq!(reply(&tester, id).body, b"The token has expired\n");
    }
    let good_signature = token.rsplit_once('.').unwrap().1;
    let other = sign(r#"{"alg": "ES256"}"#, CLAIMS);
    let other = format!("{}.{good_signature}", other.rsplit_once('.').unwrap().0);
    assert_eq!(send_token(&mut tester, &other).1, 401);
}

#[test]
fn requests_wait_for_the_first_keys_and_nothing_of_them_leaves() {
    let mut tester = start(&remote());
    assert_eq!(with(|host| host.foreign_calls.pop()).unwrap().1, [0], "it is not ready");
    let call = with(|host| host.calls[0].clone());
    assert_eq!((call.upstream.as_str(), call.timeout), ("keys.auth:8080", Duration::from_secs(5)));
    let want = [(":method", "GET"), (":path", "/jwks.json"), (":authority", "keys.auth")];
    for (name, value) in want {
        assert!(call.headers.contains(&(name.to_owned(), value.to_owned())), "{name}");
    }

    let (good, held) = send_token(&mut tester, &token(None));
    let (bad, _) = send_token(&mut tester, "a.b.c");
    let (wrong, _) = send_token(&mut tester, &token(Some("other")));
    let (gone, _) = send_token(&mut tester, &token(None));
    tester.end(gone);
    assert_eq!((held, status(&tester, bad)), (0, 401));
    assert_eq!(tester.request_body(good, b"early", false), (Pause, Vec::new()));

    answer_keys(&mut tester, &[RSA, OKP]);
    assert_eq!(with(|host| host.foreign_calls.pop()).unwrap().1, [1], "it is ready");
    assert_eq!((status(&tester, good), status(&tester, wrong)), (200, 401));
    assert_eq!(tester.stream(good).request_resumed, 1);
    assert_eq!(tester.stream(wrong).request_resumed, 0);
    assert_eq!(tester.stream(gone).request_resumed, 0);
    assert_eq!(tester.request_body(good, b"", true).0, Continue);
    assert_eq!(tester.request_body(wrong, b"x", true).0, Pause);
}

#[test]
fn without_keys_requests_are_refused_when_the_fetch_fails_or_too_many_wait() {
    let mut tester = start(&remote());
    let waiting: Vec<_> =
        (0..WAITING_MAX).map(|_| send_token(&mut tester, &token(None)).0).collect();
    assert_eq!(send_token(&mut tester, &token(None)).1, 503, "too many wait");
    tester.answer(&[(":status", "503")], b"no");
    for id in waiting {
        assert_eq!(status(&tester, id), 503);
    }
    assert_eq!(send_token(&mut tester, &token(None)).1, 503, "at once, until the next try");
    assert_eq!(calls(), 0);
    pass_time(1);
    let (id, _) = send_token(&mut tester, &token(None));
    tester.tick();
    assert_eq!(calls(), 1);
    answer_keys(&mut tester, &[OKP]);
    assert_eq!(status(&tester, id), 200);
}

#[test]
fn unknown_keys_cause_one_fetch_in_a_cool_down_for_all_requests_together() {
    let mut tester = start(&remote());
    answer_keys(&mut tester, &[&named("a")]);
    assert_eq!(send_token(&mut tester, &token(Some("a"))).1, 200);
    // The first fetch counts.
    assert_eq!(send_token(&mut tester, &token(Some("b"))).1, 401);
    pass_time(30);
    let waiting: Vec<_> = (0..10).map(|_| send_token(&mut tester, &token(Some("b"))).0).collect();
    assert_eq!(with(|host| host.tick), Duration::from_millis(1), "the filter is woken");
    tester.tick();
    tester.tick();
    assert_eq!((calls(), with(|host| host.tick)), (1, Duration::from_secs(1)));
    assert_eq!(send_token(&mut tester, &token(Some("a"))).1, 200, "known keys do not wait");
    answer_keys(&mut tester, &[&named("a")]);
    for id in waiting {
        assert_eq!(status(&tester, id), 401);
    }
    for n in 0..1000 {
        assert_eq!(send_token(&mut tester, &token(Some(&format!("c{n}")))).1, 401);
    }
    tester.tick();
    assert_eq!(calls(), 0);

    pass_time(30);
    let (rotated, _) = send_token(&mut tester, &token(Some("b")));
    tester.tick();
    answer_keys(&mut tester, &[&named("b")]);
    assert_eq!(status(&tester, rotated), 200);
    assert_eq!(send_token(&mut tester, &token(Some("a"))).1, 401, "a removed key is not cached");
    assert_eq!(metric("jwt_auth_key_fetches"), 3);
}

#[test]
fn the_last_good_keys_serve_while_the_upstream_fails_but_not_for_ever() {
    let mut tester = start(&remote());
    answer_keys(&mut tester, &[OKP]);
    let claims = r#"{"iss": "joe", "exp": 1300909380}"#;
    let token = sign(r#"{"alg": "EdDSA"}"#, claims);
    let private = format!("{{\"keys\": [{}]}}", OKP.replacen('{', r#"{"d": "AA", "#, 1));
    let large = format!("{{\"keys\": [{OKP}]}}{}", " ".repeat(300_000));
    let good = format!("{{\"keys\": [{OKP}]}}");
    let bad: [(&[(&str, &str)], &str); 9] = [
        (&[(":status", "200")], "<html>"),
        (&[(":status", "200")], &private),
        (&[(":status", "200")], &large),
        (&[(":status", "200")], r#"{"keys": []}"#),
        (&[(":status", "200"), ("content-encoding", "gzip")], &good),
        (&[(":status", "302"), ("location", "http://169.254.169.254/")], &good),
        (&[(":status", "504")], "timeout"),
        (&[(":status", "abc")], &good),
        (&[], ""),
    ];
    pass_time(600);
    for (n, (headers, body)) in bad.into_iter().enumerate() {
        tester.tick();
        assert_eq!(calls(), 1, "{n}");
        tester.answer(headers, body.as_bytes());
        assert_eq!(send_token(&mut tester, &token).1, 200, "{n}");
        pass_time(30);
    }
    assert_eq!(metric("jwt_auth_key_fetches_failed"), 9);
    pass_time(3600 - 600 - 270 + 1);
    // Cached or not.
    for claims in [claims, r#"{"iss": "joe", "exp": 1300909381}"#] {
        let (id, status) = send_token(&mut tester, &sign(r#"{"alg": "EdDSA"}"#, claims));
        assert_eq!(status, 0);
        tester.tick();
        tester.answer(&[], b"");
        assert_eq!(self::status(&tester, id), 503);
        pass_time(30);
    }
    tester.tick();
    answer_keys(&mut tester, &[OKP]);
    assert_eq!(send_token(&mut tester, &token).1, 200);
}

#[test]
fn one_vm_fetches_for_all() {
    let mut first = start(&remote());
    let mut second = Tester::<JwtAuth>::another(&remote()).unwrap();
    assert_eq!(calls(), 1);
    let (id, _) = send_token(&mut second, &token(None));
    answer_keys(&mut first, &[OKP]);
    second.tick();
    assert_eq!((calls(), status(&second, id)), (0, 200));
    let mut third = Tester::<JwtAuth>::another(&remote()).unwrap();
    assert_eq!((calls(), send_token(&mut third, &token(None)).1), (0, 200));

    // A VM that dies while it fetches holds the others up for the timeout only.
    pass_time(600);
    first.tick();
    with(|host| host.calls.clear());
    second.tick();
    assert_eq!(calls(), 0);
    pass_time(6);
    second.tick();
    assert_eq!(calls(), 1);
}

#[test]
fn a_clock_that_jumps_moves_no_timer() {
    let mut tester = start(&remote());
    answer_keys(&mut tester, &[OKP]);
    for jump in [7200_i64, -14400] {
        with(|host| {
            let step = Duration::from_secs(jump.unsigned_abs());
            host.now = host.now.map(|now| if jump > 0 { now + step } else { now - step });
        });
        tester.tick();
        assert_eq!(calls(), 0, "{jump}");
    }
}

#[test]
fn a_host_that_refuses_calls_or_has_no_foreign_functions_is_survived() {
    let mut tester = Tester::<JwtAuth>::start_with(&remote(), |host| {
        host.refuse_calls = true;
        host.now = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW));
    })
    .unwrap();
    assert_eq!(send_token(&mut tester, &token(None)).1, 503);
    with(|host| host.refuse_calls = false);
    pass_time(1);
    tester.tick();
    assert_eq!(calls(), 1);
}

#[test]
fn a_bad_configuration_is_refused_with_its_place() {
    let with_issuer = |issuer: &str| format!(r#"{{"issuers": [{{"issuer": "joe", {issuer}}}]}}"#);
    let uri = |more: &str| {
        with_issuer(&format!(r#""jwksUri": {{"upstream": "a.b:1", "path": "/", {more}}}"#))
    };
    let keys = format!(r#""jwks": {{"keys": [{OKP}]}}"#);
    let cases = [
        ("{}".to_owned(), "missing field `issuers`"),
        (r#"{"issuers": []}"#.to_owned(), "issuers: expected 1 to 16"),
        (with_issuer(r#""audiences": []"#), "issuers[0]: expected exactly one of jwks, jwksUri"),
        (with_issuer(r#""jwks": {"keys": []}"#), "issuers[0].jwks: no key can be used"),
        (with_issuer(r#""jwks": "{}""#), "issuers[0].jwks: expected a JSON Web Key Set"),
        (
            with_issuer(r#""jwks": {"keys": [{"kty": "oct"}]}"#),
            "issuers[0].jwks: the key set has a private",
        ),
        (
            with_issuer(r#""jwks": {"a": 1, "a": 2}"#),
            "issuers[0].jwks: the name \"a\" occurs twice",
        ),
        (
            with_issuer(&format!(r#"{keys}, "algorithms": ["none"]"#)),
            "issuers[0].algorithms[0]: unknown variant `none`, expected one of `RS256`, `ES256`, `EdDSA`",
        ),
        (with_issuer(&format!(r#"{keys}, "algorithms": ["HS256"]"#)), "unknown variant `HS256`"),
        (
            with_issuer(&format!(r#"{keys}, "algorithms": []"#)),
            "issuers[0].algorithms: expected at least one",
        ),
        (with_issuer(&format!(r#"{keys}, "audience": "a""#)), "issuers[0].audience: unknown field"),
        (uri(r#""timeout": "0s""#), "issuers[0].jwksUri.timeout: expected 100ms to 1m"),
        (uri(r#""timeout": 5"#), "issuers[0].jwksUri.timeout: invalid type: integer `5`"),
        (uri(r#""maxAge": "1m""#), "issuers[0].jwksUri.maxAge: expected at least cacheDuration"),
        (inline(r#""clockSkew": "1h""#), "clockSkew: expected at most 10m"),
        (inline(r#""realm": "a\"b""#), "realm: expected printable ASCII"),
        (inline(r#""skipPaths": ["/a/../b"]"#), "skipPaths[0]: \"/a/../b\" is not a path"),
        (
            inline(r#""claimsToHeaders": [{"claim": "a", "header": "Host"}]"#),
            "claimsToHeaders[0].header: host cannot",
        ),
        (
            inline(r#""claimsToHeaders": [{"claim": "a", "header": ":path"}]"#),
            "claimsToHeaders[0].header: \":path\" is not",
        ),
        (
            inline(
                r#""claimsToHeaders": [{"claim": "a", "header": "x"}, {"claim": "b", "header": "X"}]"#,
            ),
            "claimsToHeaders[1].header: x occurs twice",
        ),
    ];
    for (config, want) in cases {
        let error = Tester::<JwtAuth>::start(&config).err().unwrap();
        assert!(error.contains(want), "{config}: {error}");
    }
    let text = format!(
        r#"{{"issuers": [{{"issuer": "joe", "jwks": {:?}}}]}}"#,
        format!("{{\"keys\": [{OKP}]}}")
    );
    assert!(Tester::<JwtAuth>::start(&text).is_ok(), "a set may be given as text");
}
