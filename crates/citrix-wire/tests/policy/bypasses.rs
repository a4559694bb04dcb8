//! The models of servers that the properties go by can be deceived as the servers could.

use testkit::servers::SERVERS;

#[test]
fn the_models_are_bypassed_as_the_servers_were() {
    // Each of these leaves `/open` at one of them, so rules that looked at the path as it came were bypassed.
    for (name, path) in [
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
    ] {
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
