//! Lists of addresses, for a server on several sockets.

use std::io;

use super::{BindTo, Transport};
use crate::{address::Address, options::Options};

/// Binds to each of the addresses, or to none.
fn bind_each<T: Transport, A: BindTo<T>>(
    list: impl IntoIterator<Item = A>,
    options: &Options,
    beside: &[Address],
) -> io::Result<Vec<T::Listener>> {
    let mut binding = Binding { listeners: Vec::new(), addresses: beside.to_vec() };
    for address in list {
        binding.bind(address, options)?;
    }
    Ok(binding.listeners)
}

/// The sockets of a list that are bound already. Dropping it closes them.
struct Binding<T: Transport> {
    listeners: Vec<T::Listener>,
    /// Their addresses, and those of the lists around this one.
    addresses: Vec<Address>,
}

impl<T: Transport> Binding<T> {
    fn bind(&mut self, address: impl BindTo<T>, options: &Options) -> io::Result<()> {
        for listener in address.server_bind(options, &self.addresses)? {
            self.addresses.push(T::server_address(&listener)?);
            self.listeners.push(listener);
        }
        Ok(())
    }
}

impl<T: Transport, A: BindTo<T>, const N: usize> BindTo<T> for [A; N] {
    fn server_bind(self, options: &Options, beside: &[Address]) -> io::Result<Vec<T::Listener>> {
        bind_each(self, options, beside)
    }
}

impl<T: Transport, A: BindTo<T>> BindTo<T> for Vec<A> {
    fn server_bind(self, options: &Options, beside: &[Address]) -> io::Result<Vec<T::Listener>> {
        bind_each(self, options, beside)
    }
}

impl<T: Transport, A: BindTo<T> + Clone> BindTo<T> for &[A] {
    fn server_bind(self, options: &Options, beside: &[Address]) -> io::Result<Vec<T::Listener>> {
        bind_each(self.iter().cloned(), options, beside)
    }
}

impl<T: Transport, A: BindTo<T> + Clone, const N: usize> BindTo<T> for &[A; N] {
    fn server_bind(self, options: &Options, beside: &[Address]) -> io::Result<Vec<T::Listener>> {
        BindTo::<T>::server_bind(self.as_slice(), options, beside)
    }
}

impl<T: Transport, A: BindTo<T> + Clone> BindTo<T> for &Vec<A> {
    fn server_bind(self, options: &Options, beside: &[Address]) -> io::Result<Vec<T::Listener>> {
        BindTo::<T>::server_bind(self.as_slice(), options, beside)
    }
}

/// Tuples, for addresses of different types.
macro_rules! tuples {
    ($(($($address:ident)*))*) => { $(
        impl<T: Transport, $($address: BindTo<T>),*> BindTo<T> for ($($address,)*) {
            #[allow(non_snake_case, reason = "the names of the types are those of the values")]
            fn server_bind(self, options: &Options, beside: &[Address]) -> io::Result<Vec<T::Listener>> {
                let ($($address,)*) = self;
                let mut binding = Binding { listeners: Vec::new(), addresses: beside.to_vec() };
                $(binding.bind($address, options)?;)*
                Ok(binding.listeners)
            }
        }
    )* };
}

tuples! { (A B) (A B C) (A B C D) }
