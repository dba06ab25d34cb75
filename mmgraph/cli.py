"""The ``mmgraph`` command."""
import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mmgraph.errors import InputError, MissingExtraError
from mmgraph.typing import GraphRoute

__all__ = ['main']

_TRAINING = {
    'fit': 'train a model; the best checkpoint on validation is kept',
    'validate': 'score a checkpoint on the validation split',
    'test': 'score a checkpoint on the test split',
    'predict': 'write the predictions of a checkpoint as JSON lines',
}

_PICTURES = ('.png', '.svg', '.pdf')

_EXAMPLES = """examples:
  mmgraph demo
  mmgraph data check path/to/mnre
  mmgraph align A.edges B.edges --top-k 5 -o matches.csv
  mmgraph fit --config configs/mtb_mnre_v2.yaml --encoder bert-base-uncased
  mmgraph test --config configs/mtb_mnre_v2.yaml --ckpt_path best.ckpt
  mmgraph predict --config configs/mtb_mnre_v2.yaml --ckpt_path best.ckpt \\
      --predictions.output predictions.jsonl

'mmgraph COMMAND --help' describes a command. Errors in what you give are one
line and exit code 2; MMGRAPH_DEBUG=1 shows where they were raised."""


class _Parser(argparse.ArgumentParser):
    r"""Says what is wrong in one line, without the whole usage."""
    def error(self, message: str) -> None:  # type: ignore[override]
        raise InputError(f"{message} (see '{self.prog} --help')")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog='mmgraph', epilog=_EXAMPLES,
        description='Graph neural networks for multimodal information '
        'extraction.',
        formatter_class=argparse.RawDescriptionHelpFormatter)
    from mmgraph import __version__
    parser.add_argument('--version', action='version',
                        version=f'mmgraph {__version__}')
    commands = parser.add_subparsers(dest='command', metavar='COMMAND',
                                     required=True)
    for name, text in _TRAINING.items():
        commands.add_parser(name, help=text, add_help=False)

    demo = commands.add_parser(
        'demo', help='train on made-up posts: does the model use the image?')
    from mmgraph import demo as demo_module
    demo_module.add_arguments(demo)
    demo.set_defaults(run=demo_module.run)

    data = commands.add_parser('data', help='look at a corpus')
    actions = data.add_subparsers(dest='action', metavar='ACTION',
                                  required=True)
    check = actions.add_parser(
        'check', help='what is there, missing or damaged, a split; exits with '
        '1 on damage')
    check.add_argument('--images', type=Path, metavar='FOLDER',
                       help='look for every image here')
    check.set_defaults(run=_check)
    stats = actions.add_parser(
        'stats', help='count posts, words and labels, and tell what neighbour '
        'lists hold')
    stats.set_defaults(run=_stats)
    for action in check, stats:
        action.add_argument('root', type=Path, help='folder of the corpus')

    align = commands.add_parser(
        'align', help='find the nodes of one network in another')
    from mmgraph import align_cli
    align_cli.add_arguments(align)

    show = commands.add_parser(
        'show', help='draw one post and its alignment',
        description='Draws one post: words, dependencies, objects, and the '
        'structural alignment between them.')
    show.add_argument('index', type=int, nargs='?', default=0,
                      help='which instance (default: 0)')
    show.add_argument('--mnre', type=Path, metavar='ROOT',
                      help='a folder of MNRE; made-up posts without it')
    show.add_argument('--version', default='v1', choices=['v1', 'v2'],
                      help='version of MNRE (default: v1, which has scene '
                      'graphs)')
    show.add_argument('--split', default='test',
                      choices=['train', 'val', 'test'])
    show.add_argument('--output', type=Path, default=Path('post.png'),
                      help='picture: .png, .svg or .pdf (default: post.png)')
    show.set_defaults(run=_show)
    return parser


def _check(args: argparse.Namespace) -> int:
    from mmgraph.datasets.integrity import data_check
    from mmgraph.datasets.network_alignment import check_networks, is_networks
    if is_networks(args.root):
        text, status = check_networks(args.root)
    else:
        text, status = data_check(args.root, image_dir=args.images)
    print(text)
    return status


def _stats(args: argparse.Namespace) -> int:
    from mmgraph.datasets.integrity import data_stats
    from mmgraph.datasets.network_alignment import check_networks, is_networks
    if is_networks(args.root):
        text, status = check_networks(args.root)
    else:
        text, status = data_stats(args.root)
    print(text)
    return status


def _show(args: argparse.Namespace) -> int:
    from mmgraph.data import batch_view
    from mmgraph.datasets import MNRE, PostDataset, SyntheticPosts
    from mmgraph.nn.align import StructuralAligner
    from mmgraph.viz import save_alignment
    posts: PostDataset
    image = None
    if args.output.suffix.lower() not in _PICTURES:
        raise InputError(f"'output' must end in {', '.join(_PICTURES)}",
                         args.output)
    if args.mnre is None:
        posts = SyntheticPosts(split=args.split)
    else:
        graph: GraphRoute = ('dependency+scene' if args.version == 'v1'
                             else 'dependency')
        posts = MNRE(args.mnre, version=args.version, split=args.split,
                     graph=graph)
    if not 0 <= args.index < len(posts):
        raise InputError(f"'index' must be in [0, {len(posts)}) "
                         f'(got {args.index})')
    post = posts[args.index]
    if isinstance(posts, SyntheticPosts):
        image = posts.draw(args.index, names=False)
    alignment = StructuralAligner()(batch_view(post, 'word'),
                                    batch_view(post, 'object'))
    save_alignment(post, args.output, alignment=alignment, image=image,
                   vocabularies=posts.vocabularies)
    print(f'{post}\nwrote {args.output}')
    return 0


def _line(error: Exception) -> str | None:
    r"""What to tell of an error that what was given may have caused; nothing
    if it looks like a mistake of the program.
    """
    if isinstance(error, OSError):
        if error.filename is None:
            return None
        return f'{error.filename}: cannot be used ({error.strerror})'
    if not isinstance(error, InputError | MissingExtraError):
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        # Ours tell which argument is wrong.
        if trace is None or not trace.tb_frame.f_globals.get(
                '__name__', '').startswith('mmgraph.'):
            return None
    return ' '.join(str(error).split())


def main(argv: Sequence[str] | None = None) -> int:
    r"""Runs the command line; see ``mmgraph --help``.

    Args:
        argv (sequence of str, optional): Takes the place of
            :obj:`sys.argv[1:]`. (default: :obj:`None`)

    Returns:
        int: 0 if all went well, 1 if a check failed, 2 for unusable input.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        if args and args[0] in _TRAINING:
            from mmgraph.utils import optional_import
            optional_import('pytorch_lightning', 'train')
            optional_import('jsonargparse', 'train')
            from mmgraph.train.cli import run
            run(None if argv is None else args)
            return 0
        parsed = _parser().parse_args(args)
        return int(parsed.run(parsed))
    except BrokenPipeError:  # The reader of a pipe, such as head, has gone.
        sys.stderr.close()
        return 0
    except (ValueError, OSError, MissingExtraError) as error:
        line = _line(error)
        if line is None or os.environ.get('MMGRAPH_DEBUG'):
            raise
        print(f'mmgraph: error: {line}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('mmgraph: stopped', file=sys.stderr)
        return 130


if __name__ == '__main__':
    sys.exit(main())
