//! Memory that a process and its children share.

use std::{io, ptr::NonNull};

/// Memory that this process shares with the children it forks from now on.
pub(crate) struct Shared<T> {
    value: NonNull<T>,
}

// SAFETY: it owns its value as a `Box` does, and hands out only shared references.
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T: Sync> Shared<T> {
    /// mmap(2). The value must be plain atomics: it is not dropped, and a pointer in it would be invalid in other
    /// processes.
    pub(crate) fn new(value: T) -> io::Result<Shared<T>> {
        // SAFETY: a new anonymous mapping, at an address of the kernel's choice, aliases nothing. It is aligned to a
        // page and as large as a `T`, which is written before another process can see it.
        unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_SHARED | libc::MAP_ANON;
            let address = libc::mmap(std::ptr::null_mut(), size_of::<T>(), protection, flags, -1, 0);
            if address == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            let value_there = NonNull::new_unchecked(address.cast::<T>());
            value_there.write(value);
            Ok(Shared { value: value_there })
        }
    }
}

impl<T> std::ops::Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the mapping lives as long as `self`, and holds a `T` that is changed only by its own atomics.
        unsafe { self.value.as_ref() }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and `drop` proves that no reference is left. `T` needs no drop.
        unsafe { libc::munmap(self.value.as_ptr().cast(), size_of::<T>()) };
    }
}
