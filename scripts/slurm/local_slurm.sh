#!/usr/bin/env bash
# A Slurm of its own on one machine, to try job scripts on; needs root and Debian's slurm-wlm and munge.
#   scripts/slurm/local_slurm.sh start FOLDER    starts munged, slurmctld and slurmd; prints the line to source
#   scripts/slurm/local_slurm.sh stop FOLDER     ends them
# Everything lies in FOLDER: configuration, states, logs, the daemons' process ids, by which they are ended.
# Two processors, whatever the machine has: jobs share them with everything else.
set -euo pipefail
usage() { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[[ $# == 2 && ($1 == start || $1 == stop) ]] || usage
folder=$(mkdir -p "$2" && cd "$2" && pwd)
export SLURM_CONF=$folder/slurm.conf

stop() {
  for daemon in slurmd slurmctld munged; do
    local file=$folder/$daemon.pid pid
    [[ -s $file ]] || continue
    pid=$(<"$file")
    if [[ $(cat "/proc/$pid/comm" 2>/dev/null) == "$daemon" ]]; then
      kill "$pid"
      for ((i = 0; i < 100; ++i)); do [[ -d /proc/$pid ]] || break; sleep 0.1; done
    fi
    rm -f "$file"
  done
}
if [[ $1 == stop ]]; then
  stop
  exit 0
fi

((EUID == 0)) || { echo "local_slurm.sh: needs root" >&2; exit 2; }
for program in munged slurmctld slurmd sinfo; do
  command -v "$program" >/dev/null || { echo "local_slurm.sh: $program is missing; apt-get install slurm-wlm munge" >&2; exit 2; }
done
[[ ! -s $folder/slurmctld.pid ]] || { echo "local_slurm.sh: $folder has a Slurm already; stop it first" >&2; exit 2; }
trap 'echo "local_slurm.sh: did not start; see the logs in $folder" >&2; stop' ERR

# A free port for each daemon, kept by nobody until it takes it.
read -r control_port node_port < <(python3 -c '
import socket
sockets = [socket.socket() for _ in range(2)]
for s in sockets: s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in sockets))')
node=$(hostname -s)
mkdir -p "$folder"/{state,spool,munge}
chmod 755 "$folder" "$folder/munge"
dd if=/dev/urandom of="$folder/munge/key" bs=1024 count=1 status=none
chmod 400 "$folder/munge/key"
cat >"$SLURM_CONF" <<CONF
ClusterName=local
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=$control_port
SlurmdPort=$node_port
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket,cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=pmix
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SchedulerParameters=sched_interval=1,batch_sched_delay=0
MinJobAge=300
NodeName=$node NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=local Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF

munged --socket="$folder/munge/socket" --key-file="$folder/munge/key" --pid-file="$folder/munged.pid" \
  --log-file="$folder/munge/munged.log" --seed-file="$folder/munge/seed" --force
slurmctld -c
slurmd -c
for ((i = 0; i < 300; ++i)); do
  if [[ $(sinfo --noheader --format=%T 2>/dev/null) == idle ]]; then
    trap - ERR
    echo "export SLURM_CONF=$SLURM_CONF"
    exit 0
  fi
  sleep 0.1
done
false
