"""Einsum: every kind of label."""

from tests.spine import Case, Tensor, expand

_EQUATIONS = [
    ("ab,bc->ac", [(3, 4), (4, 5)]),
    ("abc,cde->abde", [(2, 3, 4), (4, 2, 3)]),
    ("aecd,abcd->acbe", [(2, 3, 4, 5), (2, 6, 4, 5)]),
    ("acbe,aecd->abcd", [(2, 4, 6, 3), (2, 3, 4, 5)]),
    ("abcd,cde->abe", [(2, 3, 4, 5), (4, 5, 6)]),
    ("ba,bc->ac", [(4, 3), (4, 5)]),
    ("a,b->ab", [(3,), (4,)]),
    ("a,a->", [(7,), (7,)]),
    ("ab,ab->a", [(3, 4), (3, 4)]),
    ("ab,c->b", [(3, 4), (2,)]),
    (",->", [(), ()]),
    ("ab->ba", [(3, 4)]),
    ("ab->", [(3, 4)]),
    ("ab->b", [(3, 4)]),
    ("aab->ab", [(3, 3, 4)]),
    ("aa->", [(5, 5)]),
    ("aaa->a", [(3, 3, 3)]),
    ("a->aa", [(4,)]),
    ("ab->bab", [(2, 3)]),
    ("aab,bcc->ca", [(3, 3, 2), (2, 4, 4)]),
    ("a...b,b...c->...ac", [(2, 3, 1, 4), (4, 2, 5)]),
    ("...ab,...bc->...ac", [(2, 3, 4), (4, 5)]),
    ("...ij->...ji", [(2, 2, 3, 4)]),
    ("...a->...", [(2, 3, 4)]),
    ("...,...->...", [(2, 3), (3,)]),
    ("ab,bc->ac", [(3, 0), (0, 5)]),
    ("ab,bc->ac", [(0, 2), (2, 5)]),
    ("iaj,jbk->iabk", [(2, 3, 4), (4, 3, 2)]),
    ("abij,bj->ai", [(2, 3, 4, 5), (3, 5)]),
]


def cases() -> list[Case]:
    result = []
    for equation, shapes in _EQUATIONS:
        args = {"inputs": [Tensor(s) for s in shapes]}
        attrs = {"equation": equation}
        result += expand(Case("Einsum", args, attrs, grad=("inputs",), scale=24))
    return result
