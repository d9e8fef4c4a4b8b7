//! A real browser without a window, which is steered by its DevTools protocol.

use std::{net::TcpStream, path::Path};

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::{
    client::{PATIENCE, eventually},
    place::Directory,
    process::{Process, installed},
};

/// A running Chromium.
#[derive(Debug)]
pub struct Browser {
    connection: WebSocket<TcpStream>,
    calls: u64,
    /// Ended before its directory is removed.
    _process: Process,
    _profile: Directory,
}

/// A page of a browser, by its session.
#[derive(Debug)]
pub struct Page(String);

impl Browser {
    /// `None`: it is not installed.
    #[track_caller]
    pub fn start() -> Option<Browser> {
        let mut command = installed("chromium")?;
        let profile = Directory::new();
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]);
        let process = Process::start(command.arg(format!("--user-data-dir={}", profile.path().display())));
        let url = loop {
            let line = process.error_line();
            if let Some(url) = line.strip_prefix("DevTools listening on ") {
                break url.to_owned();
            }
        };
        let address = url.trim_start_matches("ws://").split('/').next().expect("an address");
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let (connection, _) = tungstenite::client(&url, stream).expect("it takes a WebSocket");
        Some(Browser { connection, calls: 0, _process: process, _profile: profile })
    }

    /// Opens a page, of a window of this size.
    #[track_caller]
    pub fn open(&mut self, url: &str, (width, height): (u32, u32)) -> Page {
        let target = json!({"url": url, "width": width, "height": height, "newWindow": true});
        let target = self.call(None, "Target.createTarget", target);
        let attached = json!({"targetId": target["targetId"], "flatten": true});
        let attached = self.call(None, "Target.attachToTarget", attached);
        Page(attached["sessionId"].as_str().expect("a session").to_owned())
    }

    /// What an expression of JavaScript is.
    #[track_caller]
    pub fn evaluate(&mut self, page: &Page, expression: &str) -> Value {
        let expression = json!({"expression": expression, "returnByValue": true});
        self.call(Some(page), "Runtime.evaluate", expression)["result"]["value"].clone()
    }

    /// Waits until an expression of JavaScript is true.
    #[track_caller]
    pub fn wait_until(&mut self, page: &Page, expression: &str) {
        eventually(expression, || self.evaluate(page, expression) == true);
    }

    /// Types a text where the cursor is, and the enter key behind it.
    #[track_caller]
    pub fn enter(&mut self, page: &Page, text: &str) {
        self.call(Some(page), "Input.insertText", json!({"text": text}));
        for kind in ["keyDown", "keyUp"] {
            let key = json!({"type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"});
            self.call(Some(page), "Input.dispatchKeyEvent", key);
        }
    }

    /// Writes a picture of the page, as base64 of a PNG.
    #[track_caller]
    pub fn picture(&mut self, page: &Page, file: &Path) {
        let picture = self.call(Some(page), "Page.captureScreenshot", json!({"format": "png"}));
        std::fs::write(file, picture["data"].as_str().expect("a picture")).expect("it can be written");
    }

    #[track_caller]
    fn call(&mut self, page: Option<&Page>, method: &str, params: Value) -> Value {
        self.calls += 1;
        let mut call = json!({"id": self.calls, "method": method, "params": params});
        if let Some(Page(session)) = page {
            call["sessionId"] = json!(session);
        }
        self.connection.send(Message::text(call.to_string())).expect("the browser listens");
        loop {
            let answer = self.connection.read().expect("the browser answers");
            let Ok(mut answer) = serde_json::from_slice::<Value>(&answer.into_data()) else { continue };
            // Events have no number.
            if answer["id"] == self.calls {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].take();
            }
        }
    }
}
