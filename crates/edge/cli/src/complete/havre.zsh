#compdef havre
# Completion of havre for zsh. To have it in this shell: source <(havre completion zsh)

_havre() {
    local -a lines candidates options
    local line word sum
    lines=("${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    sum=${lines[-1]#:}
    lines[-1]=()
    for line in $lines; do
        word=${${line%%$'\t'*}//:/\\:}
        if [[ $line == *$'\t'* ]]; then
            candidates+=("$word:${line#*$'\t'}")
        else
            candidates+=("$word")
        fi
    done
    (( sum & 2 )) && options=(-S '')
    (( ${#candidates} )) && _describe havre candidates $options
    (( sum & 4 )) || _files
}

if [[ ${zsh_eval_context[-1]} == loadautofunc ]]; then
    _havre "$@"
else
    compdef _havre havre
fi
