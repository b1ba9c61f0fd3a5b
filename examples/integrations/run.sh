#!/usr/bin/env bash
# The dream under other people's libraries, each in an environment of its own: `make integrations`,
# or run.sh torchrl skrl for some. What passed is not run again until its script or versions change.
set -uo pipefail
cd "$(dirname "$0")/../.."
here=examples/integrations
root=${VENV:-.venv}-integrations
python=${PYTHON:-python3}
pip_args=${PIP_ARGS:-}

declare -A needs=(
    [sb3]='.[baselines]' [sb3_sac]='.[baselines]' [single_file_ppo]='.[baselines]'
    [torchrl_ppo]='. torchrl' [tianshou_ppo]='.[test] tianshou' [skrl_ppo]='. skrl'
    [rllib_ppo]='. ray[rllib]' [sb3_cube]='.[baselines]' [skrl_cube]='. skrl'
)
cube='--env-id WM-PushCube-v0 --world-model push-cube --total-timesteps 4096'
declare -A command=(
    [sb3]='sb3.py' [sb3_sac]='sb3.py --algorithm sac' [sb3_cube]="sb3.py --obs-type dict $cube"
    [skrl_cube]="skrl_ppo.py $cube"
)

install() {  # an environment a constraints file, so those of Stable-Baselines3 share one
    local venv=$1 constraints=$2; shift 2
    [ "$venv/.installed" -nt "$constraints" ] && [ "$venv/.installed" -nt pyproject.toml ] && return
    "$python" -m venv "$venv" && "$venv/bin/python" -m pip install --quiet $pip_args \
        --constraint "$constraints" --editable "$@" && touch "$venv/.installed"
}

run() {
    local name=$1 library=${1%_ppo} constraints log script begun=$SECONDS
    case $name in sb3_sac | sb3_cube | single_file_ppo) library=sb3 ;; skrl_cube) library=skrl ;; esac
    constraints=$here/constraints/$library.txt
    [ -e "$constraints" ] || constraints=constraints.txt  # the package's own dependencies
    read -r -a script <<<"${command[$name]:-$name.py}"
    log=$root/$name.log
    if [ "$log.passed" -nt "$here/${script[0]}" ] && [ "$log.passed" -nt "$constraints" ]; then
        echo "$name: passed before ($log)"; return
    fi
    if install "$root/$library" "$constraints" ${needs[$name]} >"$log" 2>&1 \
        && { echo "installed in $((SECONDS - begun)) s" >>"$log"; begun=$SECONDS; } \
        && "$root/$library/bin/python" "$here/${script[0]}" "${script[@]:1}" >>"$log" 2>&1 \
        && { [ "$library" != tianshou ] || "$root/$library/bin/python" -m pytest -q \
             tests/test_integrations.py -k tianshou >>"$log" 2>&1; }; then
        touch "$log.passed"
        echo "$name: pass, $((SECONDS - begun)) s"
    else
        echo "$name: FAIL, $((SECONDS - begun)) s, see $log"; failed=1
    fi
}

mkdir -p "$root"
failed=0
if [ $# -eq 0 ]; then
    set -- sb3 sb3_sac single_file_ppo torchrl_ppo tianshou_ppo skrl_ppo rllib_ppo
    [ ! -e wm_gym/packaged/push-cube ] || set -- "$@" sb3_cube skrl_cube
fi
for name in "$@"; do run "$name"; done
exit $failed
