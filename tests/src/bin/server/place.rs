//! Addresses as arguments: `HOST:PORT`, `unix:PATH`, `inherited:NAME` or `inherited:NAME|ADDRESS`.

use std::io;

use sockserver::{
    Address, BindTo, Options, inherited,
    transport::{AnyStream, AnyStreamAcceptor, Inherited, InheritedOr},
};

/// What an address of the command line says.
pub(crate) enum Place {
    Bound(String),
    Inherited(Inherited),
    Either(InheritedOr<String>),
}

impl Place {
    pub(crate) fn parse(address: &str) -> Place {
        let inherits = address.strip_prefix("inherited:").map(|names| names.split_once('|').unwrap_or((names, "")));
        match inherits {
            None => Place::Bound(address.to_owned()),
            Some((name, "")) => Place::Inherited(inherited(name)),
            Some((name, address)) => Place::Either(inherited(name).or(address.to_owned())),
        }
    }
}

impl BindTo<AnyStream> for Place {
    fn server_bind(self, options: &Options, beside: &[Address]) -> io::Result<Vec<AnyStreamAcceptor>> {
        match self {
            Place::Bound(address) => BindTo::<AnyStream>::server_bind(address, options, beside),
            Place::Inherited(inherited) => BindTo::<AnyStream>::server_bind(inherited, options, beside),
            Place::Either(either) => BindTo::<AnyStream>::server_bind(either, options, beside),
        }
    }
}
