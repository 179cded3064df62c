# Sourced after bundle.sh by tests that have podman use Dunebox as its runtime: engine() is podman, container() is
# engine() with what every container here gets.

command -v podman >/dev/null || skip "podman is not installed"
command -v conmon >/dev/null || skip "conmon is not installed"

ln -s "$dunebox" "$work/dunebox-oci"
cat >"$work/containers.conf" <<END
[engine]
runtime_supports_nocgroup = ["dunebox"]
runtime_supports_json = ["dunebox"]
[engine.runtimes]
dunebox = ["$work/dunebox-oci"]
END
export CONTAINERS_CONF=$work/containers.conf

engine() {
  podman --cgroup-manager=cgroupfs --storage-driver=vfs --root "$work/storage" --runroot "$work/run" \
    --runtime dunebox "$@"
}
# The hard limits are for a machine where they cannot be raised.
container() {
  local command=$1; shift
  engine "$command" --network=none --cgroups=disabled --ulimit nofile=1024:1024 --ulimit nproc=1000:1000 "$@"
}

engine info >"$work/out" 2>&1 || skip "podman does not work here: $(tail -1 "$work/out")"
