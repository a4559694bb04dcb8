//! The server models that the properties use can be deceived like the servers.

use testkit::servers::SERVERS;

/// Paths that leave `/open` at the named server: known bypasses of rules that compare paths as
/// sent.
const BYPASSES: [(&str, &str); 12] = [
    ("decode twice", "/open/%252e%252e/closed"),
    ("nginx", "/open/%2e%2e//closed"),
    ("nginx", "/closed%00/open"),
    ("Go", "/open/../closed"),
    ("Tomcat", "/open/..;x/closed"),
    ("ASP.NET", "/open/..\\closed"),
    ("ASP.NET", "/open/..%5cCLOSED. "),
    ("IIS with best fit", "/open/%EF%BC%8E%E2%80%A4/closed"),
    ("IIS with best fit", "/open/%25252e./closed"),
    ("form", "/closed?/open"),
    ("decode once", "/%63losed"),
    ("nginx", "/open/%c0%ae%c0%ae/closed"),
];

#[test]
fn known_bypasses_work_against_the_models() {
    for (name, path) in BYPASSES {
        let server = SERVERS.iter().find(|server| server.name == name).unwrap();
        let segments = (server.segments)(path);
        assert!(
            segments
                .first()
                .is_some_and(|first| first.eq_ignore_ascii_case("closed")),
            "{name} {segments:?}"
        );
    }
}
