//! `sasl.jaas.config` of AWS_MSK_IAM: the options of Amazon's login module.

use super::jaas::Entry;
use crate::Sasl;

/// What the entry says. Without one the credentials are found as AWS's own clients find them.
#[cfg(feature = "aws-msk-iam")]
pub(super) fn sasl(entry: Option<&Entry>) -> Result<Sasl, String> {
    use crate::aws::Chain;

    let (mut profile, mut adds_default) = (None, None);
    if let Some(entry) = entry {
        entry.is_of("IAMLoginModule", "AWS_MSK_IAM")?;
        for (name, value) in entry.options() {
            let is_true = value.eq_ignore_ascii_case("true");
            match name {
                "awsProfileName" if !value.is_empty() => profile = Some(value.to_owned()),
                // With a profile no other place is looked at, which is what false asks for.
                "awsAddDefaultProviders" => adds_default = Some(is_true),
                // It would write who the credentials are for into the log.
                "awsDebugCreds" if !is_true => {}
                "awsRoleArn"
                | "awsRoleExternalId"
                | "awsRoleAccessKeyId"
                | "awsRoleSecretAccessKey"
                | "awsRoleSessionName"
                | "awsRoleSessionToken" => {
                    return Err(format!(
                        "sasl.jaas.config has the option {name:?}, and this client does not assume a role from other credentials; \
                         give it the role's by a web identity, a container or an instance, or by a provider in code \
                         (Sasl::aws_msk_iam)"
                    ));
                }
                _ => return Err(entry.unknown(name)),
            }
        }
    }
    match (profile, adds_default) {
        (Some(_), Some(true)) => Err("sasl.jaas.config has awsProfileName and awsAddDefaultProviders=true, and with a profile this \
                                      client looks at no other place"
            .into()),
        (None, Some(false)) => Err("sasl.jaas.config has awsAddDefaultProviders=false and no awsProfileName, so that no place is left \
                                    to look for credentials"
            .into()),
        (Some(profile), _) => Ok(Sasl::aws_msk_iam(Chain::profile(profile))),
        (None, _) => Ok(Sasl::aws_msk_iam(Chain::default())),
    }
}

/// There is none without the feature.
#[cfg(not(feature = "aws-msk-iam"))]
pub(super) fn sasl(_: Option<&Entry>) -> Result<Sasl, String> {
    Err("this build has no AWS_MSK_IAM; build with the feature \"aws-msk-iam\"".into())
}
