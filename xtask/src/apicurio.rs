//! Apicurio Registry from Maven Central, in memory, on loopback: a real registry for tests, with Confluent's API.
//!
//! It is kept in `.kafka/dist`, and its process is tied to the one that started it, as those of Kafka are.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::kafka::{home, process, tether};

/// The release that is used.
pub const VERSION: &str = "2.6.13.Final";

/// A registry that ends with its handle.
#[derive(Debug)]
pub struct Apicurio {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Apicurio {
    /// Fetches the registry if it is not there, starts it on a free port, and waits until it answers.
    ///
    /// # Errors
    /// Java, Maven or `tar` is missing, or the download failed, or the registry does not start.
    pub fn start() -> anyhow::Result<Self> {
        let folder = fetched()?;
        // Another process can take the port before the registry does, and the start is tried again.
        let mut last = None;
        for _ in 0..3 {
            match Self::start_in(&folder) {
                Ok(registry) => return Ok(registry),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("it was not started")))
    }

    fn start_in(folder: &Path) -> anyhow::Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let log = home().join(format!("apicurio-{}-{port}.log", std::process::id()));
        let out = fs::File::create(&log)?;
        let jar = folder.join(format!("apicurio-registry-app-{VERSION}-runner.jar"));
        let child = Command::new("java")
            .args(["-Xmx384m", "-XX:TieredStopAtLevel=1", "-Dquarkus.http.host=127.0.0.1"])
            .arg(format!("-Dquarkus.http.port={port}"))
            .arg("-cp")
            .arg(format!("{}:{}", tether()?.display(), jar.display()))
            .args(["Tether", "io.quarkus.runner.GeneratedMain"])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .context("starting java")?;
        let mut registry = Self { child, port, log };
        let began = Instant::now();
        while TcpStream::connect_timeout(&registry.address(), Duration::from_secs(1)).is_err() {
            let said = || fs::read_to_string(&registry.log).unwrap_or_default();
            if let Some(status) = registry.child.try_wait()? {
                bail!("Apicurio Registry ended with {status}:\n{}", said());
            }
            ensure!(began.elapsed() < START_DEADLINE, "Apicurio Registry does not start:\n{}", said());
            thread::sleep(Duration::from_millis(50));
        }
        Ok(registry)
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The address of Confluent's API.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/apis/ccompat/v7", self.port)
    }
}

impl Drop for Apicurio {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.log);
    }
}

/// Seven seconds where nothing else runs.
const START_DEADLINE: Duration = Duration::from_secs(120);
const DOWNLOAD_DEADLINE: Duration = Duration::from_secs(300);

/// The folder with the registry, which is fetched once.
fn fetched() -> anyhow::Result<PathBuf> {
    let home = home().join("dist");
    fs::create_dir_all(&home)?;
    // As for Kafka's jars: Maven's cache does not support two at a time.
    let lock = fs::File::create(home.join("lock"))?;
    lock.lock()?;
    let folder = home.join(format!("apicurio-{VERSION}"));
    if folder.is_dir() {
        return Ok(folder);
    }
    eprintln!("fetching Apicurio Registry {VERSION} from Maven Central");
    let work = home.join("apicurio.partial");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;
    let mut maven = Command::new("mvn");
    maven
        .current_dir(&work)
        .args(["--batch-mode", "--no-transfer-progress", "--quiet", "-Dstyle.color=never"])
        .arg("org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy")
        .arg(format!("-Dartifact=io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"))
        .args(["-DoutputDirectory=.", "-Dmdep.stripVersion=true"]);
    let output = process::run(maven, None, DOWNLOAD_DEADLINE).context("running Maven (mvn)")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "Maven could not fetch Apicurio Registry {VERSION}:\n{}", said.trim());
    let mut tar = Command::new("tar");
    tar.current_dir(&work).args(["-xzf", "apicurio-registry-app-all.tar.gz"]);
    let output = process::run(tar, None, DOWNLOAD_DEADLINE).context("running tar")?;
    ensure!(output.status.success(), "tar: {}", String::from_utf8_lossy(&output.stderr));
    fs::rename(&work, &folder).with_context(|| format!("renaming to {}", folder.display()))?;
    Ok(folder)
}
