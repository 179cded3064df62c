"""Servers in the sandbox, their clients outside: requests a second, and how long the slowest hundredth took.

Server and client share the machine's processors, and the client is native in every way of running the server: a ratio
of requests says what a user of the service sees.
"""
import dataclasses
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import rows as table

PATH = table.PATH + ":/usr/sbin"


@dataclasses.dataclass(frozen=True)
class Result:
    per_second: float
    p99_ms: float


@dataclasses.dataclass(frozen=True)
class Service:
    name: str
    what: str
    prepare: object   # (directory, port) -> the server's words
    load: object      # (port, is_quick) -> Result
    needs: tuple      # programs


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port, process, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            return "the server ended"
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return ""
        except OSError:
            time.sleep(0.05)
    return f"the server does not answer after {seconds} s"


def redis(directory, port):
    return ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", directory]


def load_redis(operation):
    def load(port, is_quick):
        count = "500" if is_quick else "30000"
        text = subprocess.run(["redis-benchmark", "-p", str(port), "-n", count, "-c", "16", "-t", operation, "--csv"],
                              check=True, stdout=subprocess.PIPE, text=True, timeout=300).stdout
        fields = text.strip().splitlines()[-1].replace('"', "").split(",")
        return Result(float(fields[1]), float(fields[6]))
    return load


def nginx(directory, port):
    os.makedirs(os.path.join(directory, "www"), exist_ok=True)
    with open(os.path.join(directory, "www", "page.html"), "w") as page:
        page.write("<p>" + "word " * 200 + "</p>\n")
    temporary = "".join(f"{kind}_temp_path {directory}/{kind};\n"
                        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    with open(os.path.join(directory, "nginx.conf"), "w") as file:
        file.write(f"""daemon off;
worker_processes 1;
error_log {directory}/error.log;
pid {directory}/nginx.pid;
user root;
events {{ worker_connections 256; }}
http {{
  access_log off;
  {temporary}
  server {{ listen 127.0.0.1:{port}; root {directory}/www; }}
}}
""")
    return ["nginx", "-p", directory, "-c", os.path.join(directory, "nginx.conf")]


UNITS_MS = {"us": 0.001, "ms": 1, "s": 1000, "m": 60000}


def load_nginx(port, is_quick):
    text = subprocess.run(["wrk", "--threads", "1", "--connections", "16", "--duration", "1s" if is_quick else "3s",
                           "--latency", f"http://127.0.0.1:{port}/page.html"],
                          check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout
    if re.search(r"Non-2xx|Socket errors", text):
        raise RuntimeError("requests failed: " + text)
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1))
    slow, unit = re.search(r"99%\s+([\d.]+)(us|ms|s|m)", text).groups()
    return Result(rate, float(slow) * UNITS_MS[unit])


SERVICES = (
    Service("redis_get", "redis, GET, 16 clients", redis, load_redis("get"), ("redis-server", "redis-benchmark")),
    Service("redis_set", "redis, SET, 16 clients", redis, load_redis("set"), ("redis-server", "redis-benchmark")),
    Service("nginx", "nginx, a page of 1 KB, 16 connections", nginx, load_nginx, ("nginx", "wrk")),
)


def missing(service):
    gone = [name for name in service.needs if shutil.which(name, path=PATH) is None]
    return f"{', '.join(gone)} is not there" if gone else ""


def measure_once(service, words, directory, environment, is_quick):
    """Starts the server anew behind `words`, loads it, ends it. A Result, or why not."""
    port = free_port()
    place = os.path.join(directory, f"{service.name}.{port}")
    os.makedirs(place)
    server = service.prepare(place, port)
    server[0] = shutil.which(server[0], path=PATH)
    with open(os.path.join(place, "log"), "w") as log:
        process = subprocess.Popen([*words, *server], env=environment, cwd=place, stdin=subprocess.DEVNULL,
                                   stdout=log, stderr=log, start_new_session=True)
    try:
        complaint = wait_for(port, process, 60)
        if complaint:
            return complaint
        service.load(port, True)  # warms up: code is translated when it first runs
        return service.load(port, is_quick)
    except (subprocess.SubprocessError, RuntimeError, IndexError, AttributeError) as error:
        return str(error)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(place, ignore_errors=True)
