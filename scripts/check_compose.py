"""Checks contrib/compose: see scripts/check-compose, which starts this."""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
COMPOSE = ROOT / "contrib/compose/cluster.yml"
NODES = ["a", "b", "c"]
# What the operator makes.
MADE = {"redis-password"}
PATIENCE_S = 20


def run(*command, **options):
    """What a command prints. Fails with that if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    assert not done.returncode, f"{' '.join(map(str, command))}\n{done.stdout}"
    return done.stdout


def one(pattern, text):
    """The only match."""
    (found,) = re.findall(pattern, text, re.M)
    return found


def flags(service):
    """The flags of a service, by name."""
    return dict(word[2:].split("=", 1) for word in service["command"])


def address(service):
    return service["networks"]["uproar"]["ipv4_address"]


def check_files(compose):
    """Every file that is named is there."""
    named = [secret["file"] for secret in compose["secrets"].values()]
    for service in compose["services"].values():
        named += [volume["source"] for volume in service.get("volumes", []) if volume["type"] == "bind"]
        if build := service.get("build"):
            named.append(os.path.join(build["context"], build["dockerfile"]))
        for kind in ("configs", "secrets"):
            for used in service.get(kind, []):
                assert used["source"] in compose[kind], f"no {used['source']} in {kind}"
    for name in named:
        path = pathlib.Path(name)
        assert path.is_file() or path.name in MADE, f"{path} is missing"
    return len(named)


def check_nodes(compose, program):
    """The nodes have settings that the program knows, and the addresses that the others call them by."""
    services = compose["services"]
    known = set(re.findall(r"^ *--([a-z-]+)", run(program, "--help"), re.M))
    listening = []
    for name in NODES:
        node = services[name]
        given = flags(node)
        variables = {variable.removeprefix("UPROAR_").lower().replace("_", "-") for variable in node["environment"]}
        unknown = (set(given) | variables) - known
        assert not unknown, f"{program} does not know --{', --'.join(sorted(unknown))}"
        assert node["environment"]["UPROAR_NODE"] == name
        assert given["redis"] == f"redis://{address(services['redis'])}:6379"
        assert given["redis-password-file"] in {secret["target"] for secret in node["secrets"]}
        assert given["trusted-proxy"] == address(services["haproxy"])
        listening.append(f"{address(node)}:{given['listen'].rsplit(':', 1)[1]}")
    haproxy = (ROOT / "contrib/haproxy/uproar-cluster.cfg").read_text()
    assert re.findall(r"^ +server \w+ (\S+)", haproxy, re.M) == listening
    nginx = (ROOT / "contrib/nginx/uproar-cluster.conf").read_text()
    assert re.findall(r"^ +server ([\d.:]+)", nginx, re.M) == listening
    targets = one(r"targets: (\[.*\])", compose["configs"]["prometheus"]["content"])
    assert json.loads(targets) == listening
    source = one(r"url: http://(\S+)", compose["configs"]["grafana-datasource"]["content"])
    assert source == f"{address(services['prometheus'])}:9090"
    return len(known)


def check_haproxy(compose):
    """Its published port is the one of the file, and it has as many descriptors as its connections need."""
    haproxy = compose["services"]["haproxy"]
    (volume,) = haproxy["volumes"]
    config = pathlib.Path(volume["source"]).read_text()
    (port,) = haproxy["ports"]
    assert port["target"] == int(one(r"^ +bind :(\d+)$", config))
    assert haproxy["ulimits"]["nofile"] > 2 * int(one(r"^ +maxconn (\d+)", config))
    socket = one(r"stats socket (\S+)", config)
    assert os.path.dirname(socket) == haproxy["tmpfs"][0].split(":")[0]
    run("haproxy", "-c", "-f", volume["source"])


def check_prometheus(compose, directory):
    """promtool takes its configuration, with the alerts beside it."""
    prometheus = compose["services"]["prometheus"]
    (volume,) = [volume for volume in prometheus["volumes"] if volume["type"] == "bind"]
    (directory / "alerts.yml").write_text(pathlib.Path(volume["source"]).read_text())
    (directory / "prometheus.yml").write_text(compose["configs"]["prometheus"]["content"])
    run("promtool", "check", "config", directory / "prometheus.yml")


def check_redis(compose, directory):
    """Redis starts with its settings, wants the password, and is found to be healthy."""
    redis = compose["services"]["redis"]
    (directory / "redis-password").write_text("a password\n".replace(" ", "-"))

    def local(text):
        # Compose writes a dollar as two.
        text = text.replace("$$", "$").replace("/run/secrets", str(directory))
        return text.replace("/data", str(directory))

    shell, option, script = redis["command"]
    socket = directory / "redis.sock"
    script = local(script).replace("\nrequirepass", f"\nport 0\nunixsocket {socket}\nrequirepass", 1)
    with open(directory / "redis.log", "w") as log, subprocess.Popen([shell, option, script], stdout=log) as server:
        try:
            kind, test = redis["healthcheck"]["test"]
            assert kind == "CMD-SHELL"
            test = local(test).replace("redis-cli", f"redis-cli -s {socket}")
            deadline = time.monotonic() + PATIENCE_S
            while subprocess.run(["sh", "-c", test], stderr=subprocess.DEVNULL).returncode:
                assert server.poll() is None and time.monotonic() < deadline, (directory / "redis.log").read_text()
                time.sleep(0.05)
            # The shell has become the server, so it gets the signals of the container.
            assert "redis-server" in pathlib.Path(f"/proc/{server.pid}/cmdline").read_text()
            assert "NOAUTH" in run("redis-cli", "-s", socket, "ping")
            environment = {**os.environ, "REDISCLI_AUTH": "a-password"}
            for name, value in [("appendonly", "yes"), ("maxmemory-policy", "noeviction"), ("dir", str(directory))]:
                assert run("redis-cli", "-s", socket, "config", "get", name, env=environment).split() == [name, value]
        finally:
            server.terminate()


def main():
    """Everything."""
    docker_compose, program = sys.argv[1:]
    text = run(docker_compose, "--file", COMPOSE, "config", "--format", "json")
    compose = json.loads(text)
    files, known = check_files(compose), check_nodes(compose, program)
    check_haproxy(compose)
    with tempfile.TemporaryDirectory() as directory:
        check_prometheus(compose, pathlib.Path(directory))
        check_redis(compose, pathlib.Path(directory))
    print(f"{len(compose['services'])} services, {files} files and {known} flags fit each other")


if __name__ == "__main__":
    main()
