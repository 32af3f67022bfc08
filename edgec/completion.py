"""Shell completion scripts, generated from the command line's own parser so that they cannot fall behind it."""

from __future__ import annotations

import argparse

from edgec.cli import parser


def script(shell: str) -> str:
    """The script for `shell`: bash, zsh or fish. Source it, or put it where the shell looks for completions."""
    commands = _commands()
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](commands)


def _commands() -> dict[str, tuple[str, list[str]]]:
    """{subcommand: (help, its long options)}."""
    top = parser()
    sub = next(a for a in top._actions if isinstance(a, argparse._SubParsersAction))
    helps = {a.dest: a.help or "" for a in sub._choices_actions}
    return {
        name: (helps[name], sorted(o for a in p._actions for o in a.option_strings if o.startswith("--")))
        for name, p in sub.choices.items()
    }


def _bash(commands: dict[str, tuple[str, list[str]]]) -> str:
    cases = "\n".join(f'    {n}) words="{" ".join(o)}" ;;' for n, (_, o) in commands.items())
    return f"""# edgec completion for bash: source <(edgec completion bash)
_edgec() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" words=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{" ".join(commands)}" -- "$current"))
    return
  fi
  case "${{COMP_WORDS[1]}}" in
{cases}
  esac
  if [[ "$current" == -* ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  else
    COMPREPLY=($(compgen -f -- "$current"))
  fi
}}
complete -o filenames -F _edgec edgec
"""


def _zsh(commands: dict[str, tuple[str, list[str]]]) -> str:
    names = "\n".join(f"    '{n}:{_zsh_quote(h)}'" for n, (h, _) in commands.items())
    cases = "\n".join(f"    {n}) compadd -- {' '.join(o)}; _files ;;" for n, (_, o) in commands.items())
    return f"""#compdef edgec
# edgec completion for zsh: source <(edgec completion zsh)
_edgec() {{
  local -a commands
  commands=(
{names}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  case $words[2] in
{cases}
  esac
}}
compdef _edgec edgec
"""


def _fish(commands: dict[str, tuple[str, list[str]]]) -> str:
    lines = ["# edgec completion for fish: edgec completion fish | source"]
    for name, (text, options) in commands.items():
        lines.append(f"complete -c edgec -n __fish_use_subcommand -f -a {name} -d '{_fish_quote(text)}'")
        lines += [f"complete -c edgec -n '__fish_seen_subcommand_from {name}' -l {o[2:]}" for o in options]
    return "\n".join(lines) + "\n"


def _zsh_quote(text: str) -> str:
    """For between single quotes in _describe, where a colon parts name and text."""
    return text.replace(":", r"\:").replace("'", r"'\''")


def _fish_quote(text: str) -> str:
    return text.replace("'", r"\'")
