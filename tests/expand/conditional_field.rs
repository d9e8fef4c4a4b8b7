use sockserver::*;

#[request_handler]
#[cfg(unix)]
#[server(transport = "unix", concurrency = "sync")]
struct Session(#[cfg(unix)] PeerCred, Reader, #[cfg(not(unix))] Writer);

#[cfg(unix)]
impl RequestHandler for Session {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}
