//! A headless Chromium, told what to do by the DevTools protocol over a pipe, and a server for it: no driver, no library.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

/// How long an answer may take before the browser counts as hung. Nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(180);

/// Headless, and WebGPU by the software driver that Chromium brings; nothing is asked of the network.
const FLAGS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--enable-features=Vulkan",
    "--window-size=800,900",
    "--remote-debugging-pipe",
];

/// One tab of a browser of its own.
pub struct Chromium {
    child: Child,
    input: ChildStdin,
    output: Receiver<Value>,
    session: Option<String>,
    last: u64,
    /// What the page said on its console, and what went wrong there unheard.
    pub heard: Vec<String>,
    _profile: tempfile::TempDir,
}

impl Chromium {
    /// Starts `program` with an empty tab; `more` are further flags.
    pub fn start(program: &Path, more: &[&str]) -> Chromium {
        let profile = tempfile::tempdir().unwrap();
        if let Err(error) = Command::new(program).arg("--version").output() {
            panic!("{}: {error}; MASKTAS_CHROMIUM names no browser", program.display());
        }
        // The protocol's pipe is descriptors 3 and 4, which a shell can give it.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1"])
            .arg(program)
            .args(FLAGS)
            .args(more)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let (send, output) = channel();
        let mut pipe = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while matches!(pipe.read_until(0, &mut message), Ok(count) if count > 0) {
                message.pop();
                let Ok(value) = serde_json::from_slice(&message) else { break };
                if send.send(value).is_err() {
                    break;
                }
                message.clear();
            }
        });
        let input = child.stdin.take().unwrap();
        let mut browser =
            Chromium { child, input, output, session: None, last: 0, heard: Vec::new(), _profile: profile };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let attach = json!({ "targetId": target, "flatten": true });
        let session = browser.call("Target.attachToTarget", attach)["sessionId"].clone();
        browser.session = session.as_str().map(str::to_owned);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.call(domain, json!({}));
        }
        browser
    }

    /// One command of the protocol and its answer.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut command = json!({ "id": self.last, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            command["sessionId"] = session.as_str().into();
        }
        self.input.write_all(format!("{command}\0").as_bytes()).expect("the browser listens");
        loop {
            let message = self
                .output
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|error| panic!("{method}: {error}; the page said {:?}", self.heard));
            if message["id"] == self.last {
                assert!(message.get("error").is_none(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            let said = match message["method"].as_str() {
                Some("Runtime.consoleAPICalled") => &message["params"]["args"],
                Some("Runtime.exceptionThrown") => &message["params"]["exceptionDetails"],
                Some("Log.entryAdded") => &message["params"]["entry"]["text"],
                _ => continue,
            };
            self.heard.push(said.to_string());
        }
    }

    /// Opens `address` and waits until it and its modules are loaded.
    pub fn open(&mut self, address: &str) {
        self.call("Page.navigate", json!({ "url": address }));
        self.wait_for(&format!(
            "document.readyState === 'complete' && location.href.startsWith('{address}')"
        ));
    }

    /// The value of a JavaScript expression, once it is settled where it is a promise.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", parameters);
        let thrown = &answer["exceptionDetails"];
        assert!(thrown.is_null(), "{thrown}\nin {}", expression.chars().take(400).collect::<String>());
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub fn wait_for(&mut self, condition: &str) {
        let begun = std::time::Instant::now();
        while self.evaluate(condition) != true {
            let late = begun.elapsed() > PATIENCE;
            assert!(!late, "never: {condition}; the page said {:?}", self.heard);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Gives files to the page's `<input type=file>`, as a person would.
    pub fn choose(&mut self, selector: &str, files: &[PathBuf]) {
        let root = self.call("DOM.getDocument", json!({}))["root"]["nodeId"].clone();
        let query = json!({ "nodeId": root, "selector": selector });
        let node = self.call("DOM.querySelector", query)["nodeId"].clone();
        self.call("DOM.setFileInputFiles", json!({ "nodeId": node, "files": files }));
    }

    /// The page as a PNG.
    pub fn screenshot(&mut self) -> Vec<u8> {
        let shot =
            self.call("Page.captureScreenshot", json!({ "format": "png", "captureBeyondViewport": true }));
        base64(shot["data"].as_str().unwrap())
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes from base64.
pub fn base64(text: &str) -> Vec<u8> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0u32);
    for letter in text.bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => break,
        };
        (held, bits) = (held << 6 | u32::from(value), bits + 6);
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    bytes
}

/// Serves a folder as any static host does; gives its address, without a slash at the end.
pub fn serve(folder: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let folder = folder.clone();
            std::thread::spawn(move || answer(stream, &folder));
        }
    });
    address
}

fn answer(mut stream: TcpStream, folder: &Path) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?.take(1 << 16));
    let mut request = String::new();
    reader.read_line(&mut request).ok()?;
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 2 {
        line.clear();
    }
    let path = request.split(' ').nth(1)?.split('?').next()?.trim_start_matches('/');
    let path = if path.is_empty() { "index.html" } else { path };
    let kind = match Path::new(path).extension()?.to_str()? {
        "html" => "text/html",
        "js" | "mjs" => "text/javascript",
        "json" => "application/json",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    };
    let (status, body) = match std::fs::read(folder.join(path)) {
        Ok(body) => ("200 OK", body),
        Err(_) => ("404 Not Found", Vec::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\
         Cross-Origin-Opener-Policy: same-origin\r\nCross-Origin-Embedder-Policy: require-corp\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&body).ok()
}
