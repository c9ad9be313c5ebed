use super::*;

#[test]
fn a_path_has_one_spelling_or_is_refused() {
    use Refusal as R;
    let cases = [
        ("/", Ok("/")),
        ("/a/b", Ok("/a/b")),
        ("/a/b/", Ok("/a/b/")),
        ("/a.b/.c/..d/e..", Ok("/a.b/.c/..d/e..")),
        ("//a///b//", Ok("/a/b/")),
        ("/./a/./b/.", Ok("/a/b/")),
        ("/a/../b", Ok("/b")),
        ("/a//../b", Ok("/b")),
        ("/a/b/..", Ok("/a/")),
        ("/../../a", Ok("/a")),
        ("/..", Ok("/")),
        ("/%61%2D%2e%5F%7e", Ok("/a-._~")),
        ("/%2e%2E/a", Ok("/a")),
        ("/a/%2e%2e/b", Ok("/b")),
        ("/a%3ab%c3%a9", Ok("/a%3Ab%C3%A9")),
        ("/%252f%252e", Ok("/%252f%252e")),
        ("/a;x=1/b;y", Ok("/a;x=1/b;y")),
        ("/a%20b", Ok("/a%20b")),
        ("/%", Err(R::PathEscapeMalformed)),
        ("/%2", Err(R::PathEscapeMalformed)),
        ("/%zz", Err(R::PathEscapeMalformed)),
        ("/%u0041", Err(R::PathEscapeMalformed)),
        ("/a%00b", Err(R::PathNul)),
        ("/a%2fb", Err(R::PathEncodedSlash)),
        ("/a%5Cb", Err(R::PathEncodedSlash)),
        ("/a/..;/b", Err(R::PathDotParameters)),
        ("/a/.;x=1/b", Err(R::PathDotParameters)),
        ("/a/%2e%2e;x/b", Err(R::PathDotParameters)),
        ("/a/..%3bx/b", Err(R::PathDotParameters)),
    ];
    for (path, want) in cases {
        let spelled = normalise_path(path, EncodedSlashes::Refuse);
        assert_eq!(spelled.as_deref().map_err(|refusal| *refusal), want, "{path}");
    }
}

#[test]
fn encoded_slashes_can_be_kept() {
    let keep = |path| normalise_path(path, EncodedSlashes::Keep);
    assert_eq!(keep("/a%2fb%5c").as_deref(), Ok("/a%2Fb%5C"));
    assert_eq!(keep("/a/..%2fb").as_deref(), Ok("/a/..%2Fb"));
}

#[test]
fn normalising_twice_changes_nothing() {
    let atoms = ["/", ".", "..", "a", "%2e", "%61", "%25", "2e", ";", "%2F", "%3b", "%"];
    for (first, second, third, fourth) in combinations(&atoms) {
        let path = format!("/{first}{second}{third}{fourth}");
        if let Ok(once) = normalise_path(&path, EncodedSlashes::Keep) {
            let twice = normalise_path(&once, EncodedSlashes::Keep);
            assert_eq!(twice.as_deref(), Ok(&*once), "{path}");
        }
    }
}

fn combinations<'a>(
    atoms: &'a [&'a str],
) -> impl Iterator<Item = (&'a str, &'a str, &'a str, &'a str)> {
    let pairs = || atoms.iter().flat_map(|a| atoms.iter().map(move |b| (*a, *b)));
    pairs().flat_map(move |(a, b)| pairs().map(move |(c, d)| (a, b, c, d)))
}
