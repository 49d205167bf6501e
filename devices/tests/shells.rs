//! Devices that a shell reaches. In the place of `ssh`, `adb` and `docker` stand scripts that run the same command line here, as
//! the real ones run it there.

#![cfg(unix)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use masktas_devices::{Address, Remote, RemoteOptions, Transport};

/// A script named as the program, first in the path.
fn script(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn connect(address: &str, options: &RemoteOptions) -> masktas_devices::Result<Remote> {
    Remote::connect(&Address::parse(address)?, options)
}

/// One test, because it changes the path of the whole process.
#[test]
fn a_device_that_a_shell_reaches_gets_the_agent_once() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf {
        let path = place.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    let (programs, agents) = (at("programs"), at("agents"));
    let own = agents.join(std::env::consts::ARCH);
    std::fs::create_dir(&own).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_masktas-agent"), own.join("masktas-agent")).unwrap();
    std::fs::write(own.join("libonnxruntime.so.1.99.0"), "not a library").unwrap();
    let options = RemoteOptions { folders: vec![agents.clone()], ..RemoteOptions::default() };
    let path = std::env::var("PATH").unwrap();
    // Safety: no other thread of this process runs yet.
    unsafe { std::env::set_var("PATH", format!("{}:{path}", programs.display())) };

    // The last word is what the remote shell gets; its home is another one.
    let run = |home: &Path| {
        format!(
            "for last; do :; done\nexport HOME={}\nunset XDG_CACHE_HOME\necho Welcome >&2\neval \"$last\"",
            home.display()
        )
    };
    script(&programs, "ssh", &run(&at("ssh-home")));
    script(&programs, "adb", &run(&at("adb-home")));
    let container = format!("shift 3\nexport HOME={}\nexec \"$@\"", at("docker-home").display());
    script(&programs, "docker", &container);
    // Notes what is hashed.
    let hashed = place.path().join("hashed");
    let sum = format!("echo \"$1\" >> {}\nPATH=${{PATH#*:}}; exec sha256sum \"$1\"", hashed.display());
    script(&programs, "sha256sum", &sum);
    for (address, home) in [
        ("ssh://pi@board:2222", "ssh-home"),
        ("adb://emulator-5554", "adb-home"),
        ("docker://jetson", "docker-home"),
    ] {
        let mut device = connect(address, &options).unwrap_or_else(|error| panic!("{address}: {error}"));
        let (machine, _) = device.machine(1).unwrap();
        assert_eq!(machine.arch, std::env::consts::ARCH);
        let there = place.path().join(home).join(".cache/masktas/agent");
        let agent = there.join("masktas-agent");
        assert_eq!(std::fs::metadata(&agent).unwrap().permissions().mode() & 0o777, 0o755);
        assert!(there.join("libonnxruntime.so.1.99.0").is_file(), "the library beside the agent goes along");
        let sent = std::fs::metadata(&agent).unwrap().modified().unwrap();
        // What lies there and is never sent is not read.
        std::fs::write(there.join("0.onnx"), "a model").unwrap();
        std::fs::write(&hashed, "").unwrap();
        device.reconnect().unwrap();
        let read = std::fs::read_to_string(&hashed).unwrap();
        assert!(read.contains("masktas-agent") && !read.contains(".onnx"), "{read}");
        assert_eq!(std::fs::metadata(&agent).unwrap().modified().unwrap(), sent, "it is not sent again");
        assert!(device.fingerprint(1).is_ok());
    }

    // What the program says when it does not get there is the error.
    script(&programs, "ssh", "echo 'pi@board: Permission denied (publickey).' >&2; exit 255");
    let error = connect("ssh://pi@board", &options).err().unwrap().to_string();
    assert!(error.contains("ssh://pi@board") && error.contains("Permission denied"), "{error}");
    assert!(error.starts_with("cannot connect to"), "{error}");
    script(&programs, "ssh", "echo 'Host key verification failed.' >&2; exit 255");
    let error = connect("ssh://pi@board", &options).err().unwrap().to_string();
    assert!(error.contains("run `ssh pi@board` once"), "{error}");
    // A board for which there is no agent.
    script(&programs, "ssh", "echo 'masktas-probe arch riscv64'; echo 'masktas-probe folder /tmp'");
    let error = connect("ssh://pi@board", &options).err().unwrap().to_string();
    assert!(error.contains("riscv64") && error.contains("make agent"), "{error}");
    // A shell that is none.
    script(&programs, "ssh", "echo 'This service allows sftp connections only.'");
    let error = connect("ssh://pi@board", &options).err().unwrap().to_string();
    assert!(error.contains("POSIX shell"), "{error}");
    // Safety: as above.
    unsafe { std::env::set_var("PATH", "/nowhere") };
    let error = connect("ssh://pi@board", &options).err().unwrap().to_string();
    assert!(error.contains("`ssh` is not installed"), "{error}");
}
