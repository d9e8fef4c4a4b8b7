//! A value that a server shares with the children it forks.

use std::{io, ops::Deref};

use crate::sys;

/// Plain atomics that are visible to this process or, if the server forks, to this process and its children.
pub(crate) enum Shared<T> {
    Own(T),
    Mapped(sys::Shared<T>),
}

impl<T: Default + Sync> Shared<T> {
    pub(crate) fn new(forks: bool) -> io::Result<Shared<T>> {
        Ok(match forks {
            true => Shared::Mapped(sys::Shared::new(T::default())?),
            false => Shared::Own(T::default()),
        })
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Shared::Own(value) => value,
            Shared::Mapped(value) => value,
        }
    }
}
