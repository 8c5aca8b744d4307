#!/bin/sh
# minimise.sh KIND COMMAND ...: corpus/KIND becomes the smallest inputs of corpus/KIND and build/KIND, of at most MOST
# bytes each and BYTES together, that reach as much as all of them do.
set -e
kind=$1
shift
rm -rf "build/$kind-least" && mkdir "build/$kind-least"
"$@" -merge=1 -max_len="${MOST:-2000}" "build/$kind-least" "corpus/$kind" "build/$kind" 2>/dev/null
total=0
for file in "corpus/$kind"/*; do
    case $file in */seed*) ;; *) rm "$file" ;; esac
done
for file in $(ls -Sr "build/$kind-least"); do # the small ones first
    total=$((total + $(wc -c < "build/$kind-least/$file")))
    [ "$total" -gt "${BYTES:-70000}" ] && break
    cp "build/$kind-least/$file" "corpus/$kind/"
done
echo "$(ls "corpus/$kind" | wc -l) inputs in corpus/$kind"
