//! `milena groups remove-members`: takes members out of a group. Those that live join again.

use crate::cluster::Cluster;
use crate::exit::{Failure, summary};

/// Take members out of a group, without confirmation; those that live join again at once
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Args {
    group: String,

    /// A static member by its group.instance.id; may be repeated
    #[arg(long = "instance", value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    instances: Vec<String>,

    /// All members
    #[arg(short, long)]
    all: bool,

    #[command(flatten)]
    pub(super) cluster: Cluster,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let admin = args.cluster.connect().await?.admin();
    let removed = match args.all {
        true => admin
            .remove_all_members(&args.group)
            .await
            .map_err(|error| super::no_group(&args.group, error))?,
        false => admin.remove_members(&args.group, &args.instances).await,
    };
    let removed = removed.into_iter().map(|(member, removed)| (member, removed.map_err(Failure::from)));
    summary("removed", removed.collect())
}
