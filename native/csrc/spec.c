/* Reading a step's description.  Everything is checked against the size announced before it is pointed to. */
#include "shepherd.h"

#include <stdlib.h>
#include <string.h>

struct cursor {
    char *at, *end;
};

static const void *take(struct cursor *c, size_t count, size_t each)
{
    size_t bytes = count * each; /* counts are at most SPEC_COUNT_MAX */
    if ((size_t)(c->end - c->at) < bytes)
        return NULL;
    const void *found = c->at;
    c->at += bytes;
    return found;
}

static char *take_string(struct cursor *c)
{
    char *nul = memchr(c->at, 0, (size_t)(c->end - c->at));
    if (nul == NULL)
        return NULL;
    char *found = c->at;
    c->at = nul + 1;
    return found;
}

static char **take_strings(struct cursor *c, uint32_t count, char *first)
{
    size_t lead = first != NULL;
    char **list = calloc(count + lead + 1, sizeof *list);
    if (list == NULL)
        return NULL;
    if (lead)
        list[0] = first;
    for (uint32_t i = 0; i < count; i++) {
        list[lead + i] = take_string(c);
        if (list[lead + i] == NULL) {
            free(list);
            return NULL;
        }
    }
    return list;
}

bool spec_parse(char *data, size_t size, struct spec *out)
{
    struct cursor c = {data, data + size};
    const struct spec_head *head = take(&c, 1, sizeof *head);
    if (head == NULL || head->magic != SPEC_MAGIC || head->size != size || size % 8 != 0 || head->ngroups > SPEC_COUNT_MAX ||
        head->ncores > SPEC_COUNT_MAX || head->nrlimits > 64 || head->nargs > SPEC_COUNT_MAX ||
        head->nenv > SPEC_COUNT_MAX)
        return false;
    memset(out, 0, sizeof *out);
    out->head = *head;
    out->rlimits = take(&c, head->nrlimits, sizeof *out->rlimits);
    out->groups = take(&c, head->ngroups, sizeof *out->groups);
    out->cores = take(&c, head->ncores, sizeof *out->cores);
    if (out->rlimits == NULL || out->groups == NULL || out->cores == NULL)
        return false;
    const char **strings[] = {&out->script,     &out->work_dir,  &out->in,       &out->out, &out->err,
                              &out->cg_unified, &out->cg_memory, &out->cg_cpuset};
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
        *strings[i] = take_string(&c);
        if (*strings[i] == NULL)
            return false;
    }
    out->argv = take_strings(&c, head->nargs, (char *)(uintptr_t)out->script);
    if (out->argv == NULL)
        return false;
    out->envp = take_strings(&c, head->nenv, NULL);
    if (out->envp == NULL || c.end - c.at >= 8) { /* the end is padded to a multiple of 8 */
        free(out->argv);
        free(out->envp);
        return false;
    }
    return true;
}
