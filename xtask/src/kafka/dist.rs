//! Apache Kafka's jars, downloaded from Maven Central with `mvn` and kept in `.kafka/dist`. This file owns the download, and
//! knows nothing of clusters.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use super::process;

/// The default release.
pub const NEWEST: &str = "4.4.0";

/// Releases whose command line tools are not on Maven Central, and the release whose tools are used instead.
const TOOLS_ELSEWHERE: &[(&str, &str)] = &[("4.4.0", "4.3.1")];

/// The jars of one Kafka release, on this disk.
#[derive(Debug, Clone)]
pub struct Dist {
    version: String,
    jars: PathBuf,
}

impl Dist {
    /// The broker of `version` with its dependencies, downloaded once.
    ///
    /// # Errors
    /// Java, its compiler or Maven is missing or too old, `version` is not a release of Kafka, or the download failed.
    pub fn broker(version: &str) -> anyhow::Result<Self> {
        let tools_api = tools_version(version);
        Self::resolve("broker", version, &[("kafka_2.13", version)], tools_api)
    }

    /// Kafka's command line tools of `version`, or of another release if they were not published.
    ///
    /// # Errors
    /// As [`Dist::broker`].
    pub fn tools(version: &str) -> anyhow::Result<Self> {
        let version = tools_version(version);
        Self::resolve("tools", version, &[("kafka_2.13", version), ("kafka-tools", version)], version)
    }

    /// The release these jars are of.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The class path for `java -cp`.
    #[must_use]
    pub fn classpath(&self) -> String {
        format!("{}/*", self.jars.display())
    }

    fn resolve(
        kind: &str,
        version: &str,
        artifacts: &[(&str, &str)],
        tools_api: &str,
    ) -> anyhow::Result<Self> {
        check_version(version)?;
        check_java(version)?;
        let home = super::home().join("dist");
        let jars = home.join(format!("{kind}-{version}"));
        fs::create_dir_all(&home).with_context(|| format!("creating {}", home.display()))?;
        // Two test programs may want the same jars at the same time, which Maven's cache does not support.
        let lock = fs::File::create(home.join("lock"))?;
        lock.lock()?;
        if !jars.is_dir() {
            download(&home, &jars, version, artifacts, tools_api)?;
        }
        Ok(Self { version: version.into(), jars })
    }
}

/// A program that Kafka needs and that is missing here, if there is one.
#[must_use]
pub fn missing_program() -> Option<&'static str> {
    ["java", "javac", "mvn"].into_iter().find(|program| !process::is_installed(program))
}

fn tools_version(version: &str) -> &str {
    TOOLS_ELSEWHERE.iter().find(|(gap, _)| *gap == version).map_or(version, |(_, instead)| *instead)
}

/// Refuses a text that is not a version before Maven is asked, and releases that Milena does not start.
fn check_version(version: &str) -> anyhow::Result<()> {
    let parts: Vec<Option<u32>> = version.split('.').map(|part| part.parse().ok()).collect();
    let &[Some(major), Some(minor), Some(_)] = parts.as_slice() else {
        bail!("{version:?} is not a version of Apache Kafka: write three numbers, as in {NEWEST}");
    };
    ensure!(
        (major, minor) >= (3, 7),
        "Apache Kafka {version} cannot be started here: 3.7 is the first whose tools and KRaft setup are supported"
    );
    Ok(())
}

/// Checks that Java is there and new enough: Kafka 4 needs 17, and the class loader's own error does not say so.
fn check_java(version: &str) -> anyhow::Result<()> {
    let wanted = if version.starts_with('3') { 11 } else { 17 };
    let output = Command::new("javac")
        .arg("-version")
        .output()
        .with_context(|| format!("Apache Kafka needs a Java development kit ({wanted} or newer): javac"))?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let major = java_major(&text).with_context(|| format!("javac -version says {text:?}"))?;
    ensure!(major >= wanted, "Apache Kafka {version} needs Java {wanted} or newer, javac here is of {major}");
    Ok(())
}

/// `javac 17.0.15` is 17.
fn java_major(text: &str) -> Option<u32> {
    let number = text.split_whitespace().skip_while(|word| *word != "javac").nth(1)?;
    number.split(['.', '-', '+']).next()?.parse().ok()
}

/// Copies the jars into a folder beside the final one and renames it, so that half a download is not taken for a whole one.
fn download(
    home: &Path,
    jars: &Path,
    version: &str,
    artifacts: &[(&str, &str)],
    tools_api: &str,
) -> anyhow::Result<()> {
    eprintln!("fetching Apache Kafka {version} from Maven Central");
    let work = home.join("partial");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;
    fs::write(work.join("pom.xml"), pom(artifacts, tools_api))?;
    let mut maven = Command::new("mvn");
    maven
        .current_dir(&work)
        .args(["--batch-mode", "--no-transfer-progress", "--quiet", "-Dstyle.color=never"])
        .args(["dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=jars"]);
    let output = process::run(maven, None, DOWNLOAD_DEADLINE).context("running Maven (mvn)")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if said.contains(&format!("kafka_2.13:jar:{version}")) && said.contains("Could not find") {
            bail!("Maven Central has no Apache Kafka {version}");
        }
        bail!("Maven could not fetch Apache Kafka {version}:\n{}", said.trim());
    }
    fs::rename(work.join("jars"), jars).with_context(|| format!("renaming to {}", jars.display()))?;
    Ok(())
}

/// The project that Maven resolves. One log binding that writes to standard error, so that a broker that does not
/// start says why; `kafka-tools-api` pinned, because 4.4.0's is not on Maven Central.
fn pom(artifacts: &[(&str, &str)], tools_api: &str) -> String {
    let mut dependencies = String::new();
    for (artifact, version) in artifacts {
        dependencies += &dependency("org.apache.kafka", artifact, version, OTHER_LOGGERS);
    }
    dependencies += &dependency("org.slf4j", "slf4j-simple", "1.7.36", "");
    let pinned = dependency("org.apache.kafka", "kafka-tools-api", tools_api, "");
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">
  <modelVersion>4.0.0</modelVersion>
  <groupId>milena</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencyManagement><dependencies>{pinned}</dependencies></dependencyManagement>
  <dependencies>{dependencies}</dependencies>
</project>
"
    )
}

fn dependency(group: &str, artifact: &str, version: &str, exclusions: &str) -> String {
    format!(
        "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>\
         {exclusions}</dependency>"
    )
}

const OTHER_LOGGERS: &str = "<exclusions>\
    <exclusion><groupId>org.slf4j</groupId><artifactId>slf4j-reload4j</artifactId></exclusion>\
    <exclusion><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId></exclusion>\
    </exclusions>";

/// 56 MB. A minute is enough on most connections; five minutes are for slow ones.
const DOWNLOAD_DEADLINE: std::time::Duration = std::time::Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_three_numbers_from_3_7_on() {
        for good in ["3.7.0", "3.9.1", "4.4.0", "10.0.0"] {
            check_version(good).unwrap();
        }
        for (bad, why) in [
            ("4.4", "three numbers"),
            ("4.4.x", "three numbers"),
            ("v4.4.0", "three numbers"),
            ("../4.4.0", "three numbers"),
            ("", "three numbers"),
            ("2.8.2", "cannot be started"),
        ] {
            let error = check_version(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn javac_names_its_version() {
        assert_eq!(java_major("javac 17.0.15\n"), Some(17));
        assert_eq!(java_major("javac 25-ea\n"), Some(25));
        assert_eq!(java_major("Picked up JAVA_TOOL_OPTIONS: -Xmx1g\njavac 11.0.2"), Some(11));
        assert_eq!(java_major("javac 1.8.0_392"), Some(1));
        assert_eq!(java_major("bash: javac: not found"), None);
    }

    #[test]
    fn tools_of_4_4_0_are_those_of_4_3_1() {
        assert_eq!(tools_version("4.4.0"), "4.3.1");
        assert_eq!(tools_version("3.9.1"), "3.9.1");
    }
}
