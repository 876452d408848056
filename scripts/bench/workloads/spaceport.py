"""Three CDK stacks in which nothing changed: by flow, by the CDK's own deploy, and its synth alone.

flow has the CDK make the templates once for the same sources, and compares them with the account
itself: so it has no synth in these rounds. Nobody asks for the CDK's notices. Empties the sandbox.
"""
import subprocess
from pathlib import Path

import sandbox
from measure import Command, Contender, Failed, Missing, Peer, Workload, lacking, races, surroundings

STAGES = {"again": "three CDK stacks, nothing changed"}
RUN = ["run", "spaceport/deploy", "--env", "sandbox", "--yes"]
SPACEPORT = "tests/fixtures/spaceport"
CDK = ["--app", "cdk-python app.py", "--context", "suffix=sandbox", "--ci", "--no-notices"]


def workloads(flow: str, scale: float) -> list[Workload]:
    del scale
    return races("spaceport", STAGES, ("git",), lambda folder, peers: enter(flow, folder, peers), rounds=5)


def enter(flow: str, folder: Path, peers: dict[str, Peer | str]) -> list[Contender | Missing]:
    if missing := lacking(peers):
        return missing
    env = sandbox.up()
    sandbox.sandbox("tools")
    sandbox.sandbox("reset")
    env["PATH"] = f"{env['SANDBOX_TOOLS']}:{surroundings()['PATH']}"
    endpoint = env["SANDBOX_ENDPOINT"]
    here = folder / "checkout"
    sandbox.copy(here, "flows", SPACEPORT)
    sandbox.at_address(here, endpoint, "flows/spaceport/project.kdl")
    sandbox.commit(here, "spaceport")
    again = Command([flow, *RUN], here, env)
    done = subprocess.run(again.argv, cwd=here, env={**surroundings(), **env}, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"the first deployment ended with {done.returncode}: {done.stderr.strip()[-600:]}")
    infrastructure = here / SPACEPORT / "infrastructure"
    by_hand = {**env, "AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-west-2"}
    rows = {
        "flow": again,
        "cdk deploy": Command(["cdk", "deploy", "--all", "--require-approval", "never", *CDK], infrastructure, by_hand),
        "cdk synth": Command(["cdk", "synth", "--all", "--quiet", *CDK], infrastructure, by_hand),
    }
    return [Contender(name, {"again": command}) for name, command in rows.items()]
