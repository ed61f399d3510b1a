"""The words of all commands, as programs for three shells. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from durable_streams_client._completion import Command, Option, Value

INSTALL: Mapping[str, str] = {
    "bash": """\
With the package bash-completion, new shells have it:
  mkdir -p ~/.local/share/bash-completion/completions
  durable-streams completion bash > ~/.local/share/bash-completion/completions/durable-streams
Without it, add to ~/.bashrc:
  eval "$(durable-streams completion bash)"
""",
    "zsh": """\
New shells have it, if ~/.zshrc names the folder before it calls compinit: fpath=(~/.zfunc $fpath)
  mkdir -p ~/.zfunc
  durable-streams completion zsh > ~/.zfunc/_durable-streams
""",
    "fish": """\
New shells have it:
  mkdir -p ~/.config/fish/completions
  durable-streams completion fish > ~/.config/fish/completions/durable-streams.fish
""",
}
"""How each shell comes to know it."""
PROGRAMS = ("durable-streams", "durable-streams-cluster")


def script(shell: str, commands: Sequence[Command]) -> str:
    """Return the program for ``shell``, one of ``INSTALL``."""
    about = (
        f"Completes {PROGRAMS[0]} in {shell}. Made by: {PROGRAMS[0]} completion {shell}",
        *INSTALL[shell].splitlines(),
        "Make it anew after an upgrade.",
    )
    # It is the first line that tells zsh of which commands the file is.
    head = f"#compdef {' '.join(PROGRAMS)}\n" if shell == "zsh" else ""
    write = {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]
    return head + "".join(f"# {line}\n" for line in about) + "\n" + write(commands)


def _name(command: Command) -> str:
    return " ".join(command.words)


def _names(commands: Iterable[Command]) -> str:
    """A pattern of a shell's ``case``: what is known of the command, and a word that makes it longer."""
    return "|".join(_quoted(f"{' '.join(each.words[:-1])} {each.words[-1]}") for each in commands if each.words)


def _quoted(text: str) -> str:
    """As one word of bash and zsh."""
    return "'" + text.replace("'", "'\\''") + "'"


# ---------------------------------------------------------------------------------------------------------------- bash

_BASH = """\
_durable_streams() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
    local command= options= words= files= i
    # In --output=json the sign is a word of its own.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]]; then
        prev=${COMP_WORDS[COMP_CWORD-2]}
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "$command ${COMP_WORDS[i]}" in
            %(names)s) command="${command:+$command }${COMP_WORDS[i]}" ;;
            *) break ;;
        esac
    done
    case $command in
%(commands)s
    esac
    if [[ $cur == -* ]]; then
        words=$options files=
    fi
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    # The shell knows best how files are written. Bash 3 has no compopt, and offers none.
    [[ -z $files ]] || compopt -o "$files" 2>/dev/null
}
complete -F _durable_streams %(programs)s
"""


def _bash(commands: Sequence[Command]) -> str:
    lines = [f"        {_quoted(_name(each))})\n{_bash_command(each)}            ;;" for each in commands]
    return _BASH % {"names": _names(commands), "commands": "\n".join(lines), "programs": " ".join(PROGRAMS)}


def _bash_command(command: Command) -> str:
    behind: dict[str, list[str]] = {}
    for option in command.options:
        if option.value is not None:
            behind.setdefault(_bash_value(option.value), []).extend(option.flags)
    flags = " ".join(flag for option in command.options for flag in option.flags)
    words = " ".join([*command.actions, *(word for place in command.places for word in place.words)])
    does = [f"options={_quoted(flags)}"]
    # Where nothing else can stand, options are offered before their first sign is typed.
    if words or not command.places:
        does.append(f"words={_quoted(words)}" if words else "words=$options")
    does += [each for place in command.places if (each := _bash_value(place)).startswith("files")][:1]
    cases = [f"    {'|'.join(flags)}) {value} ;;" for value, flags in behind.items()]
    lines = ["case $prev in", *cases, f"    *) {'; '.join(does)} ;;", "esac"] if cases else does
    return "".join(f"            {line}\n" for line in lines)


def _bash_value(value: Value) -> str:
    if value.words:
        return f"words={_quoted(' '.join(value.words))}"
    if value.is_folder:
        return "files=dirnames"
    return "files=default" if value.is_file else ":"


# ----------------------------------------------------------------------------------------------------------------- zsh

_ZSH = """\
_durable_streams() {
    # Not "actions": what is called below has one of its own.
    local -a ds_actions
    local command= at=2
    while (( at < CURRENT )); do
        case "$command $words[at]" in
            (%(names)s) command="${command:+$command }$words[at]"; (( at++ )) ;;
            (*) break ;;
        esac
    done
    # What follows takes the first word for the command.
    words=("${(@)words[at-1,-1]}")
    (( CURRENT -= at - 2 ))
    case $command in
%(commands)s
    esac
}
if [[ $funcstack[1] == _durable-streams ]]; then
    _durable_streams "$@"
else
    compdef _durable_streams %(programs)s
fi
"""


def _zsh(commands: Sequence[Command]) -> str:
    lines = [f"        ({_quoted(_name(each))})\n{_zsh_command(each)}            ;;" for each in commands]
    return _ZSH % {"names": _names(commands), "commands": "\n".join(lines), "programs": " ".join(PROGRAMS)}


def _zsh_command(command: Command) -> str:
    specs = [spec for option in command.options for spec in _zsh_option(option)]
    if command.actions:
        said = [_quoted(f"{name}:{text}") for name, text in command.actions.items()]
        lines = ["ds_actions=(", *(f"    {each}" for each in said), ")"]
        specs.append(_quoted("1:command:{_describe command ds_actions}"))
    else:
        lines = []
        for number, place in enumerate(command.places, 1):
            last = number == len(command.places)
            at = "*" if last and command.goes_on else str(number)
            specs.append(_quoted(f"{at}:{_zsh_value(place)}"))
    if specs:
        lines += ["_arguments -s \\", *(f"    {spec} \\" for spec in specs[:-1]), f"    {specs[-1]}"]
    return "".join(f"            {line}\n" for line in lines)


def _zsh_option(option: Option) -> Iterable[str]:
    others = "*" if option.repeats else f"({' '.join(option.flags)})"
    value = "" if option.value is None else f":{_zsh_value(option.value)}"
    for flag in option.flags:
        joint = "" if option.value is None else "=" if flag.startswith("--") else "+"
        yield _quoted(f"{others}{flag}{joint}[{_zsh_text(option.help)}]{value}")


def _zsh_value(value: Value) -> str:
    if value.words:
        does = f"({' '.join(value.words)})"
    elif value.is_folder:
        does = "_files -/"
    else:
        does = "_files" if value.is_file else " "
    return f"{_zsh_text(value.name)}:{does}"


def _zsh_text(text: str) -> str:
    for sign in "\\[]:":
        text = text.replace(sign, "\\" + sign)
    return text


# ---------------------------------------------------------------------------------------------------------------- fish

_FISH = """\
function __durable_streams_in
    # Whether what is typed begins with these words.
    set -l words (commandline -opc)
    set -l last (math (count $argv) + 1)
    test "$words[2..$last]" = "$argv"
end
function __durable_streams_at
    # Whether nothing was typed but these words.
    set -l words (commandline -opc)
    test "$words[2..]" = "$argv"
end
complete -c durable-streams -f
"""


def _fish(commands: Sequence[Command]) -> str:
    lines = [line for command in commands for line in _fish_command(command)]
    others = [f"complete -c {name} -w {PROGRAMS[0]}" for name in PROGRAMS[1:]]
    return _FISH + "".join(f"{line}\n" for line in [*lines, *others])


def _fish_command(command: Command) -> Iterable[str]:
    exactly, within = (
        f"complete -c {PROGRAMS[0]} -n {_fish_quoted(f'__durable_streams_{where} {_name(command)}')}"
        for where in ("at", "in")
    )
    for name, text in command.actions.items():
        yield f"{exactly} -a {name} -d {_fish_quoted(text)}"
    here = exactly if command.actions else within
    for option in command.options:
        flags = " ".join(f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags)
        value = "" if option.value is None else f" -r{_fish_value(option.value) or ' -f'}"
        yield f"{here} {flags}{value} -d {_fish_quoted(option.help)}"
    for place in command.places:
        if offers := _fish_value(place):
            yield f"{within}{offers}"


def _fish_value(value: Value) -> str:
    if value.words:
        return f" -f -a {_fish_quoted(' '.join(value.words))}"
    if value.is_folder:
        return " -f -a '(__fish_complete_directories)'"
    return " -F" if value.is_file else ""


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
