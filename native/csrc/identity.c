/* Becoming a user: set everything, then read it back.  A caller that gets an error must not go on. */
#include "shepherd.h"

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int by_number(const void *a, const void *b)
{
    gid_t x = *(const gid_t *)a, y = *(const gid_t *)b;
    return x < y ? -1 : x > y;
}

static bool has_groups(const struct spec *spec)
{
    uint32_t count = spec->head.ngroups;
    int found = getgroups(0, NULL);
    if (found < 0 || (uint32_t)found != count)
        return false;
    if (count == 0)
        return true;
    gid_t *want = calloc(count, sizeof *want), *have = calloc(count, sizeof *have);
    bool same = want != NULL && have != NULL && getgroups((int)count, have) == (int)count;
    if (same) {
        for (uint32_t i = 0; i < count; i++)
            want[i] = spec->groups[i];
        qsort(want, count, sizeof *want, by_number);
        qsort(have, count, sizeof *have, by_number);
        same = memcmp(want, have, count * sizeof *want) == 0;
    }
    free(want);
    free(have);
    return same;
}

int become_user(const struct spec *spec, const char **why)
{
    uid_t uid = spec->head.uid, r, e, s;
    gid_t gid = spec->head.gid, rg, eg, sg;
    bool privileged = geteuid() == 0;
    *why = "jobs of root are not allowed here";
    if (uid == 0 && !(spec->head.flags & SPEC_ROOT_OK))
        return EPERM;
    *why = "this is no user";
    if (uid == (uid_t)-1 || gid == (gid_t)-1)
        return EINVAL;
    *why = "supplementary groups";
    if (privileged && setgroups(spec->head.ngroups, spec->head.ngroups ? spec->groups : NULL) != 0)
        return errno;
    *why = "group id";
    if (setresgid(gid, gid, gid) != 0)
        return errno;
    *why = "user id";
    if (setresuid(uid, uid, uid) != 0)
        return errno;
    *why = "the ids were not taken on";
    if (getresuid(&r, &e, &s) != 0 || r != uid || e != uid || s != uid || getresgid(&rg, &eg, &sg) != 0 || rg != gid ||
        eg != gid || sg != gid || (privileged && !has_groups(spec)))
        return EPERM;
    *why = "root could be regained";
    if (privileged && uid != 0 && setresuid(0, 0, 0) == 0)
        return EPERM;
    return 0;
}
