//! What the keys of `tls(…)` say together.

use crate::{
    attribute::{Attribute, OptionValue},
    errors::Errors,
    value::{Value, Word},
};

/// Reports the keys that mean nothing without another one.
pub(crate) fn check(said: &Attribute, errors: &mut Errors) {
    if said.unknown.contains(&"tls") {
        return;
    }
    let has_hook = has_hook(said);
    let is_given = |key| said.given.contains(&("tls", key));
    let is_empty = !said.given.iter().any(|(group, _)| *group == "tls");
    if let (Some(word), true, false) = (said.group("tls"), is_empty, has_hook) {
        errors.at(word, "`tls(…)` lacks `certificate`: write `certificate = \"cert.pem\", key = \"key.pem\"`");
    }
    for key in keys(said) {
        let missing = match key.field {
            "certificate" => Some(("key", "key = \"key.pem\"", "it is that of the certificate")),
            "key" => Some(("certificate", "certificate = \"cert.pem\"", "it is what the key belongs to")),
            "client_auth" if !has_hook => {
                Some(("client_ca", "client_ca = \"ca.pem\"", "the certificates of clients are verified with it"))
            }
            "client_ca" => Some(("client_auth", "client_auth = \"required\"", "clients are not asked otherwise")),
            _ if has_hook => None,
            _ => Some((
                "certificate",
                "certificate = \"cert.pem\", key = \"key.pem\"",
                "the server proves itself with it",
            )),
        };
        if let Some((other, usage, because)) = missing
            && !is_given(other)
        {
            let word = &key.word;
            errors.at(word, format!("`{word}` means nothing without `{other}`: write `{usage}` beside it; {because}"));
            // The others lack the same.
            return;
        }
    }
    if let (true, Some(certificate)) = (has_hook, find(said, "certificate")) {
        let word = &certificate.word;
        errors.at(word, "the hook `tls` makes the certificates: leave out one of the two");
    }
    if let (true, Some(alpn)) = (starts_in_handler(said), find(said, "alpn")) {
        let word = &alpn.word;
        errors.at(word, "`alpn` means nothing with `start = \"handler\"`: the protocol is known before TLS begins");
    }
}

/// The traits of the runtime crate that say what the server's connections have when the handler starts.
pub(crate) fn marks(said: &Attribute) -> Vec<&'static str> {
    let is_encrypted = find(said, "certificate").is_some() || has_hook(said);
    if !is_encrypted || starts_in_handler(said) {
        return Vec::new();
    }
    match find(said, "client_auth").map(|key| &key.value.value) {
        None => vec!["Encrypted"],
        Some(Value::Word(_, Word { word: "required", .. })) => {
            vec!["Encrypted", "AsksForCertificates", "RequiresCertificates"]
        }
        Some(_) => vec!["Encrypted", "AsksForCertificates"],
    }
}

fn starts_in_handler(said: &Attribute) -> bool {
    let start = find(said, "start").map(|key| &key.value.value);
    matches!(start, Some(Value::Word(_, Word { word: "handler", .. })))
}

/// The hook makes the certificates.
pub(crate) fn has_hook(said: &Attribute) -> bool {
    said.given.contains(&("hooks", "tls"))
}

fn find<'a>(said: &'a Attribute, name: &str) -> Option<&'a OptionValue> {
    keys(said).find(|key| key.field == name)
}

fn keys(said: &Attribute) -> impl Iterator<Item = &OptionValue> {
    said.options.iter().filter(|option| option.group == "tls")
}
