#!/bin/bash
# Show a cluster at work: one controller, four node daemons, real jobs. Leaves nothing behind.
#   tools/demo.sh BIN      BIN: the directory with Helix's programs
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(cd "$1" && pwd)
export PATH=$bin:$PATH

dir=$(mktemp -d "${TMPDIR:-/tmp}/helix-demo.XXXXXX")
finish() {
    status=$?
    trap - EXIT
    if ((status)); then
        echo "demo: failed; the last lines of the logs:" >&2
        tail -n 8 "$dir"/log/*.log >&2 || true
    fi
    hcluster down --quiet --dir "$dir" || true
    rm -rf "$dir"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

show() {
    printf '\n$ %s\n' "$*"
    "$@"
}

show hcluster up --nodes 4 --cpus 4 --memory 1G --dir "$dir"
eval "$(hcluster env --shell bash --dir "$dir")"
mkdir "$dir/work"
chmod 755 "$dir"
cd "$dir/work"

cat >hello.sh <<'EOF'
#!/bin/sh
#HBATCH --job-name=hello --ntasks=2 --time=5
echo "Hello from job $SLURM_JOB_ID ($SLURM_JOB_NAME) on $SLURM_JOB_NODELIST, $SLURM_NTASKS tasks"
EOF
cat >task.sh <<'EOF'
#!/bin/bash
#SBATCH --job-name=squares --array=1-12%8 --output=square-%a.txt
sleep 1
echo "$SLURM_ARRAY_TASK_ID squared is $((SLURM_ARRAY_TASK_ID * SLURM_ARRAY_TASK_ID))"
EOF

show hinfo
printf '\n$ cat hello.sh\n'
cat hello.sh
hello=$(hsubmit --parsable hello.sh)
printf '\n$ hsubmit hello.sh\nSubmitted batch job %s\n' "$hello"
array=$(hsubmit --parsable task.sh)
printf '\n$ hsubmit task.sh        # an array of twelve, eight at once\nSubmitted batch job %s\n' "$array"
after=$(hsubmit --parsable --dependency="afterok:$array" --job-name=sum --output=sum.txt \
    --wrap 'cat square-*.txt | awk "{ n += \$NF } END { print \"the sum is\", n }"')
printf '\n$ hsubmit --dependency=afterok:%s ...\nSubmitted batch job %s\n' "$array" "$after"
show hqueue
show hwhy "$after"
show hwait "$hello" "$array" "$after"
show hlog "$hello"
printf '\n$ cat square-*.txt sum.txt\n'
cat square-{1,2,3,4,5,6,7,8,9,10,11,12}.txt sum.txt
show hqueue --states=all --format='%.10i %.10j %.10T %.8M %N'
show hinfo --Node
printf '\n$ hcluster down\n'
hcluster down --dir "$dir"
echo
echo "demo: all jobs ran as they should. Start a cluster of your own: hcluster up"
