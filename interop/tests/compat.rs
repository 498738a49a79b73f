//! The pairs of schemas of `milena-registry`'s tests, asked again at a real registry: what it said is what is committed.

use std::fmt::Write as _;

use milena_registry::compat::Level;
use milena_registry::{CompatibilityLevel, Reference, Schema, SchemaRegistry, SchemaType, Version};
use serde_json::Value;

fn level(level: Level) -> CompatibilityLevel {
    match level {
        Level::None => CompatibilityLevel::None,
        Level::Backward => CompatibilityLevel::Backward,
        Level::BackwardTransitive => CompatibilityLevel::BackwardTransitive,
        Level::Forward => CompatibilityLevel::Forward,
        Level::ForwardTransitive => CompatibilityLevel::ForwardTransitive,
        Level::Full => CompatibilityLevel::Full,
        Level::FullTransitive => CompatibilityLevel::FullTransitive,
    }
}

/// Whether a schema is compatible at each level, or why the registry has no answer.
async fn ask(client: &SchemaRegistry, subject: &str, case: &Value) -> Result<Vec<(Level, bool)>, String> {
    let kind = match case["type"].as_str() {
        Some("AVRO") => SchemaType::Avro,
        Some("PROTOBUF") => SchemaType::Protobuf,
        _ => SchemaType::Json,
    };
    let older = case["older"].as_array().expect("a list");
    let referring = older.iter().chain([&case["new"]]).any(|schema| schema["references"].is_array());
    let mut schemas = Vec::new();
    for (place, schema) in older.iter().chain([&case["new"]]).enumerate() {
        let mut found = Schema::new(kind.clone(), schema["schema"].as_str().expect("a text"));
        for reference in schema["references"].as_array().into_iter().flatten() {
            let name = reference["name"].as_str().expect("a name");
            let subject = format!("{subject}-{place}-reference");
            let text = Schema::new(kind.clone(), reference["schema"].as_str().expect("a text"));
            client.register(&subject, &text).await.map_err(|error| error.to_string())?;
            found = found.reference(Reference::new(name, subject, 1));
        }
        schemas.push(found);
    }
    let new = schemas.pop().expect("a schema");
    let register = async |subject: &str| {
        for schema in &schemas {
            client.register(subject, schema).await.map_err(|error| error.to_string())?;
        }
        Ok::<(), String>(())
    };
    register(subject).await?;
    let mut answers = Vec::new();
    for wanted in Level::ALL {
        let set = async |subject: &str| {
            let set = client.set_compatibility(Some(subject), level(wanted)).await;
            set.map(drop).map_err(|error| error.to_string())
        };
        let compatible = if referring {
            // Apicurio's route for checks takes no references.
            let subject = format!("{subject}-{wanted}");
            register(&subject).await?;
            set(&subject).await?;
            match client.register(&subject, &new).await {
                Ok(_) => true,
                Err(error) if error.is_incompatible() => false,
                Err(error) => return Err(error.to_string()),
            }
        } else {
            set(subject).await?;
            // Apicurio's route for all versions compares all of them at every level.
            let version = if wanted.name().ends_with("TRANSITIVE") { None } else { Some(Version::Latest) };
            let answer = client.check_compatibility(subject, version, &new).await;
            answer.map_err(|error| error.to_string())?.is_compatible
        };
        answers.push((wanted, compatible));
    }
    Ok(answers)
}

async fn asked_again(format: &str) {
    let Some(registry) = super::schemas::registry() else { return };
    // A schema that Apicurio cannot compare is an error of its own, and stays one.
    let client = SchemaRegistry::builder([registry.url()]).retries(0).build().expect("an address");
    let path = xtask::root().join(format!("crates/registry/tests/compat/pairs/{format}.json"));
    let cases: Vec<Value> =
        serde_json::from_str(&std::fs::read_to_string(path).expect("is there")).expect("pairs");
    let mut wrong = String::new();
    for (place, case) in cases.iter().enumerate() {
        let expected = &case["apicurio"];
        let name = &case["name"];
        match ask(&client, &format!("pairs-{format}-{place}"), case).await {
            Err(error) if expected["levels"].is_object() => {
                writeln!(wrong, "{name}: {error}").expect("memory");
            }
            Err(_) => {}
            Ok(answers) => {
                for (level, compatible) in answers {
                    if expected["levels"][level.name()] != compatible {
                        writeln!(wrong, "{name}: {level}: {compatible}").expect("memory");
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[tokio::test]
async fn apicurio_says_of_avro_what_is_committed() {
    asked_again("avro").await;
}

#[tokio::test]
async fn apicurio_says_of_protobuf_what_is_committed() {
    asked_again("protobuf").await;
}

#[tokio::test]
async fn apicurio_says_of_json_what_is_committed() {
    asked_again("json").await;
}
