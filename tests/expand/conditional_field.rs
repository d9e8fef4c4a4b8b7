use sockserver::{Reader, Writer, request_handler};

#[request_handler]
struct Session(#[cfg(not(unix))] Unknown, Reader, #[cfg(unix)] Writer);

fn main() {}
