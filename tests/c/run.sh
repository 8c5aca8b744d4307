#!/bin/sh
# Runs test programs and adds up their counts.
passed=0 failed=0
for program in "$@"; do
    output=$(${RUNNER:-} "$program") || echo "$program failed"
    echo "$output" | sed '$d'
    set -- $(echo "$output" | tail -n 1)
    passed=$((passed + ${1:-0})) failed=$((failed + ${3:-1}))
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
