/* A step's cgroups, if helixd asked for any.  The directories belong to this step alone; the shepherd stays outside. */
#include "shepherd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int put(const char *folder, const char *file, const char *text)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", folder, file) >= (int)sizeof path)
        return ENAMETOOLONG;
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    int error = write(fd, text, strlen(text)) < 0 ? errno : 0;
    close(fd);
    return error;
}

static ssize_t get(const char *folder, const char *file, char *text, size_t size)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", folder, file) >= (int)sizeof path)
        return -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = read(fd, text, size - 1);
    close(fd);
    text[n < 0 ? 0 : n] = 0;
    return n;
}

static int make(const char *folder)
{
    return mkdir(folder, 0755) == 0 || errno == EEXIST ? 0 : errno;
}

static int make_memory(const char *folder, const char *file, uint64_t bytes)
{
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)bytes);
    return put(folder, file, text);
}

static int make_cpuset(const struct spec *spec)
{
    char mems[256] = "", cpus[4096] = "", parent[PATH_MAX];
    size_t used = 0;
    for (uint32_t i = 0; i < spec->head.ncores && used < sizeof cpus - 16; i++)
        used += (size_t)snprintf(cpus + used, sizeof cpus - used, "%s%u", i ? "," : "", spec->cores[i]);
    snprintf(parent, sizeof parent, "%s/..", spec->cg_cpuset);
    if (get(parent, "cpuset.mems", mems, sizeof mems) <= 0)
        return EIO;
    int error = put(spec->cg_cpuset, "cpuset.mems", mems);
    return error ? error : put(spec->cg_cpuset, "cpuset.cpus", cpus);
}

int cgroup_make(const struct spec *spec)
{
    int error = 0;
    if (*spec->cg_unified) {
        error = make(spec->cg_unified);
        if (!error && spec->head.mem_bytes && !*spec->cg_memory)
            error = make_memory(spec->cg_unified, "memory.max", spec->head.mem_bytes);
    }
    if (!error && *spec->cg_memory) {
        error = make(spec->cg_memory);
        if (!error && spec->head.mem_bytes)
            error = make_memory(spec->cg_memory, "memory.limit_in_bytes", spec->head.mem_bytes);
    }
    if (!error && *spec->cg_cpuset && spec->head.ncores) {
        error = make(spec->cg_cpuset);
        if (!error)
            error = make_cpuset(spec);
    }
    return error;
}

pid_t cgroup_fork(const struct spec *spec, bool *joined)
{
    int fd = *spec->cg_unified ? open(spec->cg_unified, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        struct clone_args args = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (unsigned)fd};
        *joined = true;
        pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
        if (pid == 0)
            return 0;
        close(fd);
        if (pid > 0)
            return pid;
    }
    *joined = false; /* no such kernel, or no such right */
    return fork();
}

int cgroup_join(const struct spec *spec, bool joined)
{
    const char *folders[] = {joined ? "" : spec->cg_unified, spec->cg_memory, spec->head.ncores ? spec->cg_cpuset : ""};
    for (size_t i = 0; i < 3; i++)
        if (*folders[i]) {
            int error = put(folders[i], "cgroup.procs", "0");
            if (error)
                return error;
        }
    return 0;
}

bool cgroup_kill(const struct spec *spec)
{
    return *spec->cg_unified && put(spec->cg_unified, "cgroup.kill", "1") == 0;
}

bool cgroup_freeze(const struct spec *spec, bool frozen)
{
    return *spec->cg_unified && put(spec->cg_unified, "cgroup.freeze", frozen ? "1" : "0") == 0;
}

static bool counted(const char *folder, const char *file)
{
    char text[1024];
    if (!*folder || get(folder, file, text, sizeof text) <= 0)
        return false;
    const char *at = strstr(text, "oom_kill ");
    return at != NULL && strtol(at + 9, NULL, 10) > 0;
}

bool cgroup_saw_oom(const struct spec *spec)
{
    return counted(spec->cg_unified, "memory.events") || counted(spec->cg_memory, "memory.oom_control");
}

void cgroup_remove(const struct spec *spec)
{
    const char *folders[] = {spec->cg_unified, spec->cg_memory, spec->cg_cpuset};
    for (size_t i = 0; i < 3; i++)
        for (int tries = 0; *folders[i] && tries < 20 && rmdir(folders[i]) != 0 && errno == EBUSY; tries++)
            usleep(5000); /* the last process leaves a moment after it was waited for */
}
