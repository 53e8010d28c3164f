/* helix-shepherd --as UID GID GROUPS ...: what helixd does with a user's files and shell, done as that user.
 *
 *   --read PATH OFFSET LIMIT   a header (struct read_head), then bytes of a regular file
 *   --run PROGRAM ARG...       become the program, with a minimal environment that the caller set
 *
 * GROUPS is a comma separated list, "" for none. */
#include "shepherd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_MAX (1 << 20)

struct read_head {
    int32_t error, reserved;
    int64_t offset, size; /* size: of the file now */
};

static int finish(struct read_head head, const char *data, size_t count)
{
    if (write(1, &head, sizeof head) != (ssize_t)sizeof head)
        return 1;
    while (count > 0) {
        ssize_t n = write(1, data, count);
        if (n <= 0)
            return 1;
        data += n;
        count -= (size_t)n;
    }
    return 0;
}

static int read_file(const char *path, long long offset, long long limit)
{
    struct read_head head = {0};
    struct stat info;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0) {
        head.error = errno;
        return finish(head, NULL, 0);
    }
    if (!S_ISREG(info.st_mode)) {
        head.error = S_ISDIR(info.st_mode) ? EISDIR : ESPIPE;
        return finish(head, NULL, 0);
    }
    head.size = info.st_size;
    head.offset = offset >= 0 ? offset : offset < -head.size ? 0 : head.size + offset;
    if (limit < 0 || limit > READ_MAX)
        limit = READ_MAX;
    char *data = malloc((size_t)limit + 1);
    size_t have = 0;
    while (data != NULL && have < (size_t)limit) {
        ssize_t n = pread(fd, data + have, (size_t)limit - have, head.offset + (off_t)have);
        if (n < 0) {
            head.error = errno;
            break;
        }
        if (n == 0)
            break;
        have += (size_t)n;
    }
    int status = finish(head, data, have);
    free(data);
    return status;
}

static bool parse_groups(const char *text, struct spec *spec, uint32_t *groups, uint32_t room)
{
    spec->groups = groups;
    while (*text) {
        char *end;
        unsigned long group = strtoul(text, &end, 10);
        if (end == text || group > UINT32_MAX || spec->head.ngroups == room || (*end && *end != ','))
            return false;
        groups[spec->head.ngroups++] = (uint32_t)group;
        text = *end ? end + 1 : end;
    }
    return true;
}

int as_user(int argc, char **argv)
{
    static uint32_t groups[SPEC_COUNT_MAX];
    struct spec spec = {.head = {.flags = SPEC_ROOT_OK}};
    struct read_head head = {0};
    if (argc < 7 || !parse_groups(argv[4], &spec, groups, SPEC_COUNT_MAX))
        return 2;
    spec.head.uid = (uint32_t)strtoul(argv[2], NULL, 10);
    spec.head.gid = (uint32_t)strtoul(argv[3], NULL, 10);
    signal(SIGPIPE, SIG_DFL);
    const char *why = "";
    head.error = become_user(&spec, &why);
    bool reads = strcmp(argv[5], "--read") == 0 && argc == 9;
    if (head.error) {
        if (reads)
            return finish(head, NULL, 0);
        fprintf(stderr, "cannot become the user: %s: %s\n", why, strerror(head.error));
        return 126;
    }
    if (reads)
        return read_file(argv[6], atoll(argv[7]), atoll(argv[8]));
    if (strcmp(argv[5], "--run") != 0)
        return 2;
    setsid();
    execv(argv[6], argv + 6);
    fprintf(stderr, "%s: %s\n", argv[6], strerror(errno));
    return 127;
}
