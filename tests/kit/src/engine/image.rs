//! Images made `FROM scratch` with nothing but the programs that a test runs: a build through the API, which asks no
//! registry and starts no container.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::Engine;
use crate::programs;

/// What an image holds and how it starts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Image<'a> {
    /// `name:tag`
    pub name: &'a str,
    /// Executable files, as (path in the image without the leading `/`, file here).
    pub files: &'a [(&'a str, &'a Path)],
    /// Symbolic links, as (path in the image, target).
    pub links: &'a [(&'a str, &'a str)],
    /// The program and its first arguments.
    pub entrypoint: &'a [&'a str],
    /// Further arguments, which a container may replace.
    pub cmd: &'a [&'a str],
    /// Further instructions of a Dockerfile: `EXPOSE 80`, `STOPSIGNAL SIGQUIT`,
    /// `HEALTHCHECK --interval=1s CMD ["/origin", "check", "http://127.0.0.1/health"]`, `LABEL`, `ENV`.
    pub instructions: &'a [&'a str],
}

/// What `busybox` is linked as in [`Engine::busybox_image`].
const APPLETS: [&str; 14] = [
    "bin/sh",
    "bin/cat",
    "bin/ls",
    "bin/sleep",
    "bin/wget",
    "bin/nc",
    "bin/nslookup",
    "bin/ping",
    "bin/ip",
    "bin/env",
    "bin/true",
    "bin/false",
    "bin/test",
    "bin/kill",
];

impl Engine {
    /// Makes an image.
    ///
    /// # Panics
    /// When a file cannot be read or the engine refuses.
    pub async fn image(&self, image: Image<'_>) {
        let path = format!("/build?t={}&rm=1&forcerm=1", image.name);
        let answer = self.api.upload(&path, context(&image)).await.text();
        // Progress is told line by line under a status of success, and so is failure.
        assert!(!answer.contains("\"error\""), "image {}: {answer}", image.name);
    }

    /// Makes an image of the [`origin`](crate::origin) alone, as with `FROM scratch`: no shell, nothing else.
    ///
    /// # Panics
    /// When the engine refuses.
    pub async fn origin_image(&self, name: &str) {
        let files: &[(&str, &Path)] = &[("origin", programs::origin())];
        let instructions = &["EXPOSE 80"];
        self.image(Image { name, files, entrypoint: &["/origin"], instructions, ..Image::default() }).await;
    }

    /// Makes an image with the [`origin`](crate::origin) as `/bin/origin`, which it starts, and a shell and common tools
    /// beside it.
    ///
    /// # Panics
    /// When busybox is not installed as a static program, or the engine refuses.
    pub async fn busybox_image(&self, name: &str) {
        let busybox =
            ["/bin/busybox", "/usr/bin/busybox"].map(Path::new).into_iter().find(|path| path.is_file());
        let busybox = busybox.expect("the package busybox-static is installed");
        let files: &[(&str, &Path)] = &[("bin/origin", programs::origin()), ("bin/busybox", busybox)];
        let links = APPLETS.map(|applet| (applet, "/bin/busybox"));
        let instructions = &["EXPOSE 80"];
        let entrypoint = &["/bin/origin"];
        self.image(Image { name, files, links: &links, entrypoint, instructions, ..Image::default() }).await;
    }

    /// Gives the image `from` a further name.
    ///
    /// # Panics
    /// When the engine refuses.
    pub async fn tag(&self, from: &str, name: &str) {
        let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
        self.api
            .call("POST", &format!("/images/{from}/tag?repo={repository}&tag={tag}"), None)
            .await
            .ok(name);
    }
}

fn dockerfile(image: &Image<'_>) -> String {
    let start = [("ENTRYPOINT", image.entrypoint), ("CMD", image.cmd)];
    let start = start.iter().filter(|(_, words)| !words.is_empty());
    let start = start.map(|(word, words)| format!("{word} {}", json!(words)));
    let instructions = image.instructions.iter().map(|instruction| (*instruction).to_owned());
    let lines: Vec<String> = ["FROM scratch".to_owned(), "COPY root/ /".to_owned()]
        .into_iter()
        .chain(start)
        .chain(instructions)
        .collect();
    lines.join("\n")
}

/// What a build is made from: a tar archive of the Dockerfile and the files.
fn context(image: &Image<'_>) -> Vec<u8> {
    let mut tar = Vec::new();
    entry(&mut tar, "Dockerfile", b'0', "", dockerfile(image).as_bytes());
    for folder in ["", "bin/", "etc/", "tmp/"] {
        entry(&mut tar, &format!("root/{folder}"), b'5', "", &[]);
    }
    for (path, file) in image.files {
        match fs::read(file) {
            Ok(octets) => entry(&mut tar, &format!("root/{path}"), b'0', "", &octets),
            Err(error) => panic!("{} for the image {}: {error}", file.display(), image.name),
        }
    }
    for (path, target) in image.links {
        entry(&mut tar, &format!("root/{path}"), b'2', target, &[]);
    }
    tar.resize(tar.len() + 2 * BLOCK, 0);
    tar
}

/// A tar archive is a sequence of blocks of this many octets.
const BLOCK: usize = 512;

/// Appends an entry in the format `ustar` (POSIX.1-1988), everything executable and owned by root.
fn entry(tar: &mut Vec<u8>, path: &str, kind: u8, target: &str, octets: &[u8]) {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, path.as_bytes());
    put(100, b"0000755\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", octets.len()).as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        "); // the checksum counts its own field as spaces
    put(156, &[kind]);
    put(157, target.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|octet| u32::from(*octet)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend_from_slice(&header);
    tar.extend_from_slice(octets);
    tar.resize(tar.len().next_multiple_of(BLOCK), 0);
}
