use sockserver::*;
use std::{marker::PhantomData, sync::Arc};

#[derive(Default, Server)]
#[server(transport = "unix", concurrency = "threading", handler = Session<T>)]
struct Shared<T>(T)
where
    T: Send + Sync + 'static;

#[request_handler]
struct Session<T: Send + Sync + 'static> {
    server: Arc<Shared<T>>,
    #[default]
    of: PhantomData<T>,
}

impl<T: Send + Sync + 'static> RequestHandler for Session<T> {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}
