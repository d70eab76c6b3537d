# Completion of havre for bash. To have it in this shell: source <(havre completion bash)

_havre() {
    local rest=$COMP_LINE trimmed word i
    local -a words=()
    # Bash parts words at the characters of COMP_WORDBREAKS too; what the line has in one piece is one word again.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        trimmed=${rest#"${rest%%[![:space:]]*}"}
        if ((i > 0)) && [[ $trimmed == "$rest" ]]; then
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
        fi
        rest=${trimmed#"$word"}
    done
    local current=${words[${#words[@]} - 1]}
    local reply
    reply=$("${words[0]/#\~\//$HOME/}" __complete "${words[@]:1}" 2>/dev/null) || return
    local sum=${reply##*:}
    COMPREPLY=()
    while IFS=$'\t' read -r word _; do
        [[ -n $word ]] && COMPREPLY+=("$word")
    done <<<"${reply%:*}"
    # What bash puts in is what follows the last character at which it parts words.
    local kept=""
    if [[ $current == *[=:]* && $COMP_WORDBREAKS == *[=:]* ]]; then
        kept=${current%"${current##*[=:]}"}
        COMPREPLY=("${COMPREPLY[@]#"$kept"}")
    fi
    if ((sum & 2)); then
        compopt -o nospace 2>/dev/null
    fi
    if ! ((sum & 4)); then
        compopt -o filenames 2>/dev/null
        while IFS= read -r word; do
            COMPREPLY+=("$word")
        done < <(compgen -f -- "${current#"$kept"}")
    fi
}

complete -F _havre havre
