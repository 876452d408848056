//! `flow run deploy --env sandbox`: the sample shop, really deployed.
