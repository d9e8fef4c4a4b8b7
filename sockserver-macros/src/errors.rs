//! All the errors of one input, reported together.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use std::fmt::Display;

#[derive(Default)]
pub(crate) struct Errors(Option<syn::Error>);

impl Errors {
    /// Reports `message` on `tokens`.
    pub(crate) fn at(&mut self, tokens: impl ToTokens, message: impl Display) {
        self.push(syn::Error::new_spanned(tokens, message));
    }

    pub(crate) fn push(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(errors) => errors.combine(error),
            None => self.0 = Some(error),
        }
    }
}

/// One `compile_error!` for each error.
impl ToTokens for Errors {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.extend(self.0.as_ref().map(compile_error));
    }
}

/// As `syn` does it, without the `::core::` before the macro, which is nothing in a crate of the edition of 2015. With the
/// macro's resolution in place of the user's, the compiler would add lines about the macro.
pub(crate) fn compile_error(error: &syn::Error) -> TokenStream {
    let is_path = |token: &TokenTree| match token {
        TokenTree::Punct(punct) => punct.as_char() == ':',
        TokenTree::Ident(name) => name == "core",
        _ => false,
    };
    error.to_compile_error().into_iter().filter(|token| !is_path(token)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_nothing_that_an_edition_does_not_know() {
        let mut errors = Errors::default();
        errors.at(quote::quote!(one two), "wrong");
        errors.at(quote::quote!(three), "wrong as well");
        let expected = quote::quote!(compile_error! { "wrong" } compile_error! { "wrong as well" });
        assert_eq!(errors.to_token_stream().to_string(), expected.to_string());
    }
}
