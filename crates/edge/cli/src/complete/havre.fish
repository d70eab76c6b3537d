# Completion of havre for fish. To have it in this shell: havre completion fish | source

function __havre_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    test (count $current) -eq 0; and set current ''
    set -l reply ($words[1] __complete $words[2..] "$current" 2>/dev/null)
    set -l sum (string sub -s 2 -- $reply[-1])
    set -e reply[-1]
    printf '%s\n' $reply
    if test (math "floor($sum / 4) % 2") -eq 0
        __fish_complete_path $current
    end
end

complete -c havre -f -a '(__havre_complete)'
