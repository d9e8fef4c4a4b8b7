//! What the macros say and write, as a user's compiler sees it.

#[test]
fn mistakes_are_told_in_the_users_words() {
    trybuild::TestCases::new().compile_fail("ui/*.rs");
}

#[test]
fn fixtures_and_their_expansions_compile() {
    trybuild::TestCases::new().pass("expand/*.rs");
}
