"""Configuration: one key table; a grammar; what a file means; what it says of each key.

    key, table_*, keys   the key table                                   (standard library)
    parse                grammar: text -> entries with file and line     (standard library)
    values               text of a value <-> value                       (standard library)
    line, nodes, partitions, resolve   entries -> checked meaning, and findings   (standard library)
    check                check_config: everything there is to say        (standard library)
    write                format_conf: values -> text                     (standard library)
    model, load          Config and its records; load, render, diff      (msgspec, blake3: for the daemons)

Nothing is imported here, so that commands can use the light parts.
"""
