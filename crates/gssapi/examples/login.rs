//! Logs in by Kerberos, and says as whom: `login BOOTSTRAP PRINCIPAL KEYTAB`, or `login BOOTSTRAP` with the default cache of tickets.

use std::process::ExitCode;

use milena::{Client, NewTopic, Record, Sasl};
use milena_gssapi::Gssapi;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match login().await {
        Ok(offset) => {
            println!("written at offset {offset}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

async fn login() -> Result<i64, String> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let (bootstrap, kerberos) = match &arguments[..] {
        [bootstrap] => (bootstrap, Gssapi::new()),
        [bootstrap, principal, keytab] => (bootstrap, Gssapi::new().keytab(principal, keytab)),
        _ => return Err("login BOOTSTRAP [PRINCIPAL KEYTAB]".into()),
    };
    let connecting = Client::builder().bootstrap(bootstrap).sasl(Sasl::custom(kerberos)).connect();
    let client = connecting.await.map_err(|error| format!("{error} (again: {})", error.is_retriable()))?;
    let told = |error: milena::Error| error.to_string();
    let name = format!("letters-{}", std::process::id());
    client.admin().create_topic(NewTopic::new(&*name)).await.map_err(told)?;
    let producer = client.producer().build().await.map_err(told)?;
    let receipt = producer.send(Record::to(&name).value("delivered")).await.map_err(told)?;
    receipt.offset().ok_or_else(|| "the broker told no offset".into())
}
