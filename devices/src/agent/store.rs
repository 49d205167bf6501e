//! Models that an agent was sent, kept by the hash of their content.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// A folder of model files.
pub struct Store {
    folder: PathBuf,
    /// Most bytes of one model.
    model_max: u64,
    /// Most bytes of all models; the ones unused for longest go first.
    total_max: u64,
    incoming: Option<Incoming>,
    /// Models announced in this conversation, which are not thrown away.
    wanted: BTreeSet<PathBuf>,
    /// Hashes of models whose content was compared with them in this conversation.
    verified: RefCell<BTreeSet<String>>,
    /// Whether the announced model was refused, so that the parts of it that are on their way are nothing new.
    refused: bool,
}

/// A model that is being received.
struct Incoming {
    hash: String,
    expected: u64,
    received: u64,
    digest: Sha256,
    file: tempfile::NamedTempFile,
}

impl Store {
    /// Keeps models in `folder`, which is made when it is missing.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn new(folder: &Path, model_max: u64, total_max: u64) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(io(folder))?;
        Ok(Self {
            folder: folder.to_owned(),
            model_max,
            total_max,
            incoming: None,
            wanted: BTreeSet::new(),
            verified: RefCell::default(),
            refused: false,
        })
    }

    /// Whether a model must be sent. It then comes in parts.
    ///
    /// # Errors
    /// [`Error::ModelTooLarge`]; [`Error::Garbled`] for a hash that is none; [`Error::Io`].
    pub fn announce(&mut self, hash: &str, bytes: u64) -> Result<bool> {
        (self.incoming, self.refused) = (None, false);
        if bytes == 0 {
            // It would have no last part.
            masktas_runtime::onnx::admit(&[]).map_err(|reason| Error::NotAdmitted { reason })?;
        }
        if bytes > self.model_max {
            return Err(Error::ModelTooLarge { bytes, most: self.model_max });
        }
        let path = self.path(hash)?;
        self.wanted.insert(path.clone());
        // Its length too: a device that lost its power may have kept a part. Its content is compared when it is used: reading
        // every model that is kept would take a board longer than measuring some.
        if std::fs::metadata(&path).is_ok_and(|file| file.is_file() && file.len() == bytes) {
            // Its turn to be thrown away moves back.
            let now = std::time::SystemTime::now();
            let _ = File::options().append(true).open(&path).and_then(|file| file.set_modified(now));
            return Ok(false);
        }
        self.make_room(bytes);
        let file = tempfile::NamedTempFile::new_in(&self.folder).map_err(io(&self.folder))?;
        let digest = Sha256::new();
        self.incoming = Some(Incoming { hash: hash.to_owned(), expected: bytes, received: 0, digest, file });
        Ok(true)
    }

    /// Takes the next part of the announced model; `true` when it is complete, is what its hash says and may be given to an
    /// engine, as [`masktas_runtime::onnx::admit`].
    ///
    /// # Errors
    /// [`Error::Garbled`] when the parts are not the announced model; [`Error::NotAdmitted`]; [`Error::Io`], as when the
    /// disk is full. The model is then forgotten, and the rest of its parts with it: the sender, who does not wait for an
    /// answer to each, hears of it once.
    pub fn part(&mut self, data: &[u8]) -> Result<bool> {
        if self.refused {
            return Ok(false);
        }
        let taken = self.take(data);
        self.refused = taken.is_err();
        taken
    }

    fn take(&mut self, data: &[u8]) -> Result<bool> {
        let garbled = |reason: String| Error::Garbled { reason };
        let Some(mut incoming) = self.incoming.take() else {
            return Err(garbled("a part of a model came without a model".into()));
        };
        incoming.received += data.len() as u64;
        if incoming.received > incoming.expected || data.is_empty() && incoming.expected > 0 {
            let (got, want) = (incoming.received, incoming.expected);
            return Err(garbled(format!("{got} bytes of a model came and {want} were announced")));
        }
        incoming.file.write_all(data).map_err(io(&self.folder))?;
        incoming.digest.update(data);
        if incoming.received < incoming.expected {
            self.incoming = Some(incoming);
            return Ok(false);
        }
        let hash = hexadecimal(&incoming.digest.finalize());
        if hash != incoming.hash {
            return Err(garbled(format!("a model's hash is {hash} and {} was announced", incoming.hash)));
        }
        let bytes = std::fs::read(incoming.file.path()).map_err(io(&self.folder))?;
        masktas_runtime::onnx::admit(&bytes).map_err(|reason| Error::NotAdmitted { reason })?;
        let path = self.path(&hash)?;
        incoming.file.as_file().sync_all().map_err(io(&self.folder))?;
        incoming.file.persist(&path).map_err(|error| io(&path)(error.error))?;
        self.verified.get_mut().insert(hash);
        Ok(true)
    }

    /// The bytes of a model that is here; the first time, compared with its hash.
    ///
    /// # Errors
    /// [`Error::Garbled`] when it is not; [`Error::Damaged`] when its content is another one. It is then thrown away, so that
    /// it is sent anew.
    pub fn read(&self, hash: &str) -> Result<Vec<u8>> {
        let path = self.path(hash)?;
        let bytes = std::fs::read(&path)
            .map_err(|_| Error::Garbled { reason: format!("model {hash} was not sent") })?;
        if !self.verified.borrow().contains(hash) {
            if model_hash(&bytes) != hash {
                let _ = std::fs::remove_file(&path);
                return Err(Error::Damaged { path });
            }
            self.verified.borrow_mut().insert(hash.to_owned());
        }
        Ok(bytes)
    }

    fn path(&self, hash: &str) -> Result<PathBuf> {
        // The name of a file: nothing but digits may get into it.
        if hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            Ok(self.folder.join(format!("{hash}.onnx")))
        } else {
            Err(Error::Garbled { reason: format!("`{}` is no SHA-256", hash.escape_default()) })
        }
    }

    /// Throws models away, oldest first, until `bytes` more fit.
    fn make_room(&self, bytes: u64) {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut files: Vec<(std::time::SystemTime, u64, PathBuf)> = entries
            .filter(|entry| entry.path().extension().is_some_and(|end| end == "onnx"))
            .filter_map(|entry| {
                let metadata = entry.metadata().ok()?;
                Some((metadata.modified().ok()?, metadata.len(), entry.path()))
            })
            .collect();
        files.sort();
        let mut total: u64 = files.iter().map(|(_, length, _)| length).sum();
        for (_, length, path) in files {
            if total.saturating_add(bytes) <= self.total_max {
                break;
            }
            if !self.wanted.contains(&path) && std::fs::remove_file(&path).is_ok() {
                total -= length;
            }
        }
    }
}

/// The SHA-256 of a file's content, as [`Store`] names it.
pub fn model_hash(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    move |source| Error::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Vec<u8> {
        let mut builder = masktas_runtime::GraphBuilder::new("g", 20);
        let one = || [masktas_runtime::Dim::Fixed(1)];
        let x = builder.input("x", masktas_runtime::Dtype::F32, one());
        let y = builder.node("Add", "y", &[&x, &x], []);
        builder.output(&y, masktas_runtime::Dtype::F32, one());
        masktas_export::onnx::write(&builder.finish().unwrap()).unwrap()
    }

    fn receive(store: &mut Store, bytes: &[u8]) -> Result<bool> {
        assert!(store.announce(&model_hash(bytes), bytes.len() as u64)?);
        for part in bytes.chunks(50) {
            if store.part(part)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    #[test]
    fn a_model_is_sent_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::new(folder.path(), 1 << 20, 1 << 20).unwrap();
        let bytes = model();
        assert!(receive(&mut store, &bytes).unwrap());
        let hash = model_hash(&bytes);
        assert_eq!(store.read(&hash).unwrap(), bytes);
        assert!(!store.announce(&hash, bytes.len() as u64).unwrap());
        // Half of it, as after a power cut, is none.
        let path = folder.path().join(format!("{hash}.onnx"));
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(receive(&mut store, &bytes).unwrap());
        assert_eq!(store.read(&hash).unwrap(), bytes);
        assert!(store.read(&model_hash(b"other")).unwrap_err().to_string().contains("was not sent"));
    }

    #[test]
    fn a_damaged_model_is_found_when_it_is_used_and_sent_anew() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Store::new(folder.path(), 1 << 20, 1 << 20).unwrap();
        let bytes = model();
        let hash = model_hash(&bytes);
        receive(&mut open(), &bytes).unwrap();
        std::fs::write(folder.path().join(format!("{hash}.onnx")), vec![0; bytes.len()]).unwrap();
        let mut store = open();
        assert!(!store.announce(&hash, bytes.len() as u64).unwrap(), "nothing is read before it is used");
        let error = store.read(&hash).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert!(receive(&mut store, &bytes).unwrap());
        assert_eq!(store.read(&hash).unwrap(), bytes);
    }

    #[test]
    fn what_is_not_a_model_or_not_the_announced_one_is_refused_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::new(folder.path(), 1000, 1 << 20).unwrap();
        let script = b"#!/bin/sh\nrm -rf /\n";
        let text = receive(&mut store, script).unwrap_err().to_string();
        assert!(text.contains("ONNX"), "{text}");
        assert!(store.read(&model_hash(script)).is_err());
        let text = store.announce(&model_hash(b"x"), 2 << 30).unwrap_err().to_string();
        assert!(text.contains("2147483648") && text.contains("1000"), "both numbers: {text}");
        assert!(store.announce("../../etc/passwd", 3).unwrap_err().to_string().contains("no SHA-256"));
        assert!(store.announce(&model_hash(b"abc"), 3).unwrap());
        assert!(store.part(b"abd").unwrap_err().to_string().contains("announced"));
        assert!(store.announce(&model_hash(b"abc"), 3).unwrap());
        assert!(store.part(b"abcd").unwrap_err().to_string().contains("4 bytes"));
        assert!(!store.part(b"abc").unwrap(), "the rest of a refused model is no news");
        assert!(store.announce(&model_hash(b""), 0).unwrap_err().to_string().contains("ONNX"));
        assert!(store.part(b"abc").unwrap_err().to_string().contains("without a model"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn the_oldest_models_make_room() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = model();
        let length = bytes.len() as u64;
        let mut store = Store::new(folder.path(), 1 << 20, 2 * length + 10).unwrap();
        let of = |name: u8| vec![name; length as usize];
        for (name, age) in [(b'a', 300), (b'b', 200), (b'c', 100)] {
            let path = folder.path().join(format!("{}.onnx", model_hash(&of(name))));
            std::fs::write(&path, of(name)).unwrap();
            let then = std::time::SystemTime::now() - std::time::Duration::from_secs(age);
            File::options().append(true).open(&path).unwrap().set_modified(then).unwrap();
        }
        receive(&mut store, &bytes).unwrap();
        let kept = |name: u8| store.read(&model_hash(&of(name))).is_ok();
        assert!(!kept(b'a') && !kept(b'b') && kept(b'c') && store.read(&model_hash(&bytes)).is_ok());
    }
}
