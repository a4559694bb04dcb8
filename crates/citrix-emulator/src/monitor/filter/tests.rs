use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::monitor::data::MONITOR;

/// Rows that the tests look at.
const ROWS: usize = 100;

fn set(name: &str) -> &'static EntitySet {
    MONITOR.addressed(name).unwrap().0
}

fn count(set: &'static EntitySet, text: &str) -> Result<usize, QueryError> {
    let filter = Filter::parse(text, set)?;
    Ok((0..ROWS).filter(|index| filter.matches(*index)).count())
}

/// Entity sets, expressions, and how many of the first rows they select.
#[rustfmt::skip]
const EXPRESSIONS: [(&str, &str, usize); 38] = [
    ("Machines", "Name ne null", 100),
    ("Machines", "Name eq null", 0),
    ("Machines", "Name eq 'ACME\\VDA-0007'", 1),
    ("Machines", "CurrentRegistrationState eq 1 and LifecycleState lt 1", 96),
    ("Machines", "CurrentRegistrationState eq 2 or LifecycleState eq 0", 100),
    ("Machines", "not (CurrentRegistrationState eq 1)", 4),
    ("Machines", "not IsAssigned", 50),
    ("Machines", "IsAssigned eq false", 50),
    ("Machines", "IsAssigned", 50),
    ("Machines", "true", 100),
    ("Machines", "null", 0),
    ("Machines", "endswith(Name,'-0001') or contains(DnsName, 'vda-0002')", 2),
    ("Machines", "contains(Name,'-0001') eq true", 1),
    ("Machines", "startswith(tolower(Name), 'acme\\vda-000')", 10),
    ("Machines", "startswith(Name, 'O''Neill')", 0),
    ("Machines", "indexof(Name, 'VDA') eq 5 and length(Name) eq 13", 100),
    ("Machines", "indexof(Name, '(') eq -1", 100),
    ("Machines", "Id eq c1700003-0000-4000-8000-000000000005", 1),
    ("Machines", "Id in (c1700003-0000-4000-8000-000000000005, C1700003-0000-4000-8000-000000000006)", 2),
    ("Machines", "LifecycleState in (0)", 100),
    // Null: no order, and no function value.
    ("Machines", "IPAddress eq null", 4),
    ("Machines", "startswith(IPAddress, '10.')", 96),
    ("Machines", "not startswith(IPAddress, '10.')", 0),
    ("Machines", "startswith(IPAddress, '10.') or true", 100),
    ("Machines", "FailureDate lt 2030-01-01T00:00:00Z", 0),
    ("Machines", "FailureDate ne 2030-01-01T00:00:00Z", 100),
    ("Machines", "DesktopGroup/Name eq 'Group 3'", 9),
    ("Sessions", "StartDate ge 2025-01-15T09:30:00Z", 40),
    ("Sessions", "StartDate ge 2025-01-15T10:30:00.000+01:00", 40),
    ("Sessions", "StartDate gt 2025-01-15T09:30:00Z and StartDate le 2025-01-15T09:31:00Z", 1),
    ("Sessions", "StartDate ge 2025-01-15 and date(StartDate) eq 2025-01-15", 100),
    ("Sessions", "year(StartDate) eq 2025 and month(StartDate) eq 1 and day(StartDate) eq 15", 100),
    ("Sessions", "hour(StartDate) eq 8 and minute(StartDate) lt 40 and second(StartDate) eq 0", 10),
    ("Sessions", "User/UserName eq 'user0014'", 1),
    ("Sessions", "Machine/DesktopGroup/Name eq 'Group 3'", 9),
    ("Sessions", "UserId eq 15", 1),
    ("Sessions", "(ConnectionState eq 5) and (LogOnDuration gt 8e3)", 74),
    ("DesktopGroups", "MachineCost gt 0 and MachineCost lt 0.5", 100),
];

#[test]
fn expressions_select_rows() {
    for (name, text, matching) in EXPRESSIONS {
        assert_eq!(count(set(name), text), Ok(matching), "{text}");
    }
}

#[test]
fn invalid_expressions_are_rejected_with_their_reason() {
    let deep = "(".repeat(10_000);
    let nested = "not ".repeat(100) + "true";
    let long = "true or ".repeat(2000) + "true";
    for (text, reason) in [
        ("", "Syntax error at position 0"),
        ("Name eq", "Syntax error"),
        ("Name is 1", "Syntax error at position 4"),
        ("Name eq 'x", "Syntax error"),
        ("(Name eq 'x'", "Syntax error"),
        ("Name eq 'x' 'y'", "Syntax error"),
        ("LifecycleState add 1 eq 1", "Syntax error"),
        ("Name in 'x'", "Syntax error"),
        ("Name in ()", "Syntax error"),
        ("Name", "boolean value"),
        ("length(Name)", "boolean value"),
        ("Nothing eq 1", "'Nothing' on type 'Machine'"),
        ("name eq 'x'", "'name' on type 'Machine'"),
        ("Catalog/Nothing eq 1", "'Nothing' on type 'Catalog'"),
        ("Nothing/Name eq 1", "'Nothing' on type 'Machine'"),
        ("Catalog eq null", "'Catalog' on type 'Machine'"),
        (
            "Name eq 1",
            "'eq' does not accept operands of the types 'Edm.String' and 'Edm.Int64'",
        ),
        ("Id eq 'x'", "'eq' does not accept"),
        ("Name in ('x', 1)", "'in' does not accept"),
        ("true and Name", "'and' does not accept"),
        ("not Name", "'not' does not accept"),
        ("contains(Name)", "The function 'contains'"),
        ("contains(Name,1)", "The function 'contains'"),
        ("contains(Name,'x','y') eq true", "The function 'contains'"),
        ("substringof('x',Name)", "The function 'substringof'"),
        (
            "Sessions/any(s: s/UserId eq 1)",
            "The function 'Sessions/any'",
        ),
        (&deep, "too long or too deeply nested"),
        (&nested, "too long or too deeply nested"),
        (&long, "too long or too deeply nested"),
    ] {
        let error = count(set("Machines"), text).unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
}

/// Parts of expressions, whole and damaged.
const WORDS: &str = "Name IsAssigned ModifiedDate Catalog/Name eq ne lt ge in and or not contains tolower \
    length year date ( ) , ' '' 'a' / null true 1 -1 1.5e3 2025-01-15T08:30:00Z 9999-12-31T23:59:59-01:00 \
    c1700003-0000-4000-8000-000000000005 + - é \u{2028} not( any( T %";

proptest! {
    #[test]
    fn any_text_is_parsed_or_rejected(
        words in vec(select(WORDS.split(' ').collect::<Vec<_>>()), 0..40),
        separated: bool,
    ) {
        let text = words.join(if separated { " " } else { "" });
        if let Ok(matching) = count(set("Machines"), &text) {
            prop_assert!(matching <= ROWS);
        }
    }

    #[test]
    fn negation_of_a_boolean_expression_selects_the_other_rows(
        operator in select(&["eq", "ne"][..]),
        state in 0..3,
        name in "[a-zA-Z0-9' -]{0,3}",
    ) {
        let quoted = name.replace('\'', "''");
        let text = format!("CurrentRegistrationState {operator} {state} or contains(Name,'{quoted}')");
        let matching = count(set("Machines"), &text)?;
        prop_assert_eq!(count(set("Machines"), &format!("not ({text})"))?, ROWS - matching);
    }
}
