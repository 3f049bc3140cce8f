"""What columns, missing values and verdicts are called in exports, in a few languages."""

from __future__ import annotations

import re
import unicodedata

from shared.domain.vocabulary import Kind

NAMES: dict[str, tuple[str, ...]] = {
    "listing_id": ("listing id", "item id", "offer id", "product id", "ad id", "sku", "asin",
                   "artikel nr", "artikelnummer", "angebot id", "id annonce", "id anuncio",
                   "listing", "item", "offer", "id"),
    "complaint_id": ("complaint id", "ticket id", "case id", "report id", "ticket", "case", "id"),
    "shop_id": ("shop id", "store id", "shop", "store", "domain", "host", "url", "id"),
    "marketplace": ("marketplace", "platform", "site", "market", "marktplatz", "plattform",
                    "place de marche", "mercado", "channel"),
    "url": ("url", "link", "listing url", "item url", "product url", "web", "lien", "enlace"),
    "host": ("host", "domain", "hostname", "website", "url"),
    "brand": ("brand", "brand name", "marke", "marque", "marca", "manufacturer", "hersteller"),
    "title": ("title", "name", "item name", "product name", "listing title", "titel",
              "bezeichnung", "titre", "titulo", "nombre", "headline", "name rus"),
    "description": ("description", "text", "beschreibung", "descripcion", "body", "details"),
    "language": ("language", "lang", "sprache", "langue", "idioma", "locale"),
    "category": ("category", "category name", "kategorie", "categorie", "categoria",
                 "product type", "commercial type name", "warengruppe"),
    "price": ("price", "preis", "prix", "precio", "amount", "price discounted", "sale price",
              "current price", "verkaufspreis"),
    "currency": ("currency", "currency code", "wahrung", "waehrung", "devise", "moneda"),
    "list_price": ("list price", "msrp", "rrp", "uvp", "original price", "listenpreis",
                   "prix conseille", "regular price"),
    "quantity": ("quantity", "qty", "stock", "menge", "anzahl", "bestand", "quantite", "cantidad"),
    "seller_id": ("seller id", "merchant id", "vendor id", "handler id", "haendler id", "seller",
                  "merchant", "vendor", "handler", "haendler", "vendeur", "vendedor",
                  "account id"),
    "seller_name": ("seller name", "shop name", "merchant name", "vendor name", "store name",
                    "handlername", "haendlername", "nom vendeur"),
    "seller_created_at": ("seller created at", "seller since", "member since", "seller registered",
                          "account created", "mitglied seit"),
    "seller_rating": ("seller rating", "rating", "seller score", "bewertung", "note vendeur"),
    "ship_from": ("ship from", "ships from", "shipping country", "origin", "item location",
                  "versand aus", "expedie de", "country"),
    "image_hashes": ("image hashes", "image hash", "images", "phash", "photo hashes"),
    "created_at": ("created at", "created", "created on", "date created", "listed at", "published",
                   "posted at", "angelegt", "erstellt", "erstellt am", "date de creation",
                   "fecha de creacion", "registration date", "domain registration date",
                   "date", "datum", "fecha"),
    "updated_at": ("updated at", "updated", "last updated", "modified", "modified at", "last seen",
                   "geandert", "geaendert", "geandert am", "aktualisiert", "mis a jour"),
    "signals": ("signals",),
    "label": ("label", "class", "is fraud", "fraud", "fraudulent"),
    "source": ("source", "decided by", "reported by", "origin", "quelle", "herkunft"),
    "claim": ("claim", "complaint type", "reason", "issue", "grund", "motif", "motivo"),
    "text": ("text", "comment", "message", "body", "description", "kommentar"),
    "verdict": ("verdict", "decision", "outcome", "result", "resolution", "ergebnis",
                "prufergebnis", "entscheidung", "is fake", "is counterfeit", "counterfeit",
                "label"),
    "decided_at": ("decided at", "decision date", "verdict date", "decided", "decided on",
                   "reviewed at", "entschieden am", "date"),
    "reversed_at": ("reversed at", "reversal date", "appealed at", "overturned at"),
}  # fmt: skip
"""Our column -> names it goes by, folded, the surest first."""

ANSWER_NAMES = frozenset(
    ("label", "class", "target", "y", "result", "resolution", "outcome", "status", "state",
     "ground truth", "decided at", "reversed at", "ergebnis", "prufergebnis", "resultat",
     "resultado", "estado", "statut")
)  # fmt: skip
"""Whole names of columns that tell what a model shall find out, or may well do so."""

ANSWER_WORDS = frozenset(
    ("verdict", "verdicts", "decision", "entscheidung", "takedown", "removed", "removal", "blocked",
     "banned", "suspended", "delisted", "moderation", "moderated", "appeal", "appealed",
     "fake", "fakes", "fraud", "fraudulent", "scam", "phishing", "counterfeit", "counterfeits",
     "genuine", "authentic", "legit", "legitimate", "infringing", "infringement", "sanction",
     "sanctions", "sanctioned", "falschung", "faelschung", "gefalscht", "gefaelscht", "gesperrt",
     "geloscht", "geloescht", "betrug", "contrefacon", "contrefait", "faux", "fraude", "supprime",
     "falso", "falsificacion", "falsificado", "bloqueado", "retirado")
)  # fmt: skip
"""Words that give a column away wherever they stand in its name ..."""

MEASURES = frozenset(
    ("count", "counts", "number", "rate", "ratio", "share", "returns", "complaints", "reports",
     "anzahl", "quote", "rate", "nombre", "taux", "numero", "tasa")
)  # fmt: skip
"""... unless one of these says that it counts or weighs something."""

MISSING = ("-", "--", "n/a", "N/A", "na", "NA", "null", "NULL", "none", "None", "nan", "NaN", "nil",
           "unknown", "Unknown", "hidden", "Hidden", "unbekannt", "k.A.", "k. A.", "\\N", "?",
           "s/o", "inconnu", "desconocido", "нет", "无")  # fmt: skip
"""Words for "not known"; nothing else out of a file is ever repeated in a proposal."""

MEANINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "verdict": {
        "counterfeit": ("counterfeit", "fake", "fraud", "fraudulent", "confirmed", "falschung",
                        "gefalscht", "contrefacon", "falsificacion", "replica"),
        "authentic": ("authentic", "genuine", "legit", "legitimate", "original", "ok", "echt",
                      "authentique", "autentico", "real"),
        "grey_market": ("grey market", "gray market", "parallel import", "graumarkt"),
        "other_ip": ("other ip", "trademark", "copyright", "design", "patent"),
        "unsure": ("unsure", "unclear", "unknown", "undecided", "pending", "unklar"),
    },
    "verdict_source": {
        "analyst": ("analyst", "manual", "expert", "human", "reviewer"),
        "test_purchase": ("test purchase", "testkauf"),
        "customs": ("customs", "zoll", "douane", "aduana"),
        "platform": ("platform", "marketplace", "plattform"),
        "rule": ("rule", "automatic", "auto", "system"),
    },
    "complaint_source": {
        "buyer": ("buyer", "customer", "kaufer", "kunde", "client", "consumer"),
        "analyst": ("analyst", "manual", "expert"),
        "test_purchase": ("test purchase", "testkauf"),
        "customs": ("customs", "zoll", "douane", "aduana"),
        "appeal": ("appeal", "widerspruch"),
    },
    "claim": {
        "fake": ("fake", "counterfeit", "falschung", "contrefacon", "not authentic"),
        "defect": ("defect", "defective", "broken", "damaged", "defekt"),
        "not_received": ("not received", "not arrived", "missing", "nicht erhalten"),
        "wrong_item": ("wrong item", "not as described", "wrong", "falscher artikel"),
        "other": ("other", "sonstiges", "autre", "otro"),
    },
    "label": {
        "1": ("fraudulent", "fraud", "fake", "scam", "phishing", "1", "true", "yes"),
        "0": ("legitimate", "legit", "genuine", "safe", "ok", "0", "false", "no"),
    },
}  # fmt: skip
"""Our word -> words for it in exports, folded."""

_BY_KIND: dict[tuple[str, Kind], tuple[str, ...]] = {
    ("created_at", "complaints"): ("complaint date", "received at", "reported at", "report date"),
}
"""Names that mean one of our columns in one kind of record only."""

_BARE = frozenset(("id", "date", "datum", "fecha"))
"""Names that mean something alone, and another thing beside other words: the date of a sale."""

FLAGS = {"1": "counterfeit", "true": "counterfeit", "yes": "counterfeit",
         "0": "authentic", "false": "authentic", "no": "authentic"}  # fmt: skip
"""What yes and no mean in a column whose very name says counterfeit."""

SAYS_FAKE = frozenset(("is fake", "is counterfeit", "counterfeit", "is fraud", "fraud", "fake"))


def tells_answer(name: str) -> bool:
    """Tell whether a column's name, folded, says that it holds what a model shall find out."""
    words = set(name.split())
    return name in ANSWER_NAMES or (bool(words & ANSWER_WORDS) and not words & MEASURES)


def fold(name: str) -> str:
    """Return a column's or value's name in lower case, without accents, marks and camel humps."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    plain = unicodedata.normalize("NFKD", spaced).replace("ß", "ss")
    kept = "".join(sign for sign in plain if not unicodedata.combining(sign))
    return " ".join(re.findall(r"[^\W\d_]+|\d+", kept.lower()))


def likeness(ours: str, theirs: str, kind: Kind) -> float:
    """Return how well a file's column name fits our column, from 0 to 1."""
    folded = fold(theirs)
    if folded == fold(ours):
        return 1.0
    names = (*NAMES[ours], *_BY_KIND.get((ours, kind), ()))
    if folded in names:
        return 0.95 - 0.1 * names.index(folded) / len(names)
    bare = re.sub(r" \d+$", "", folded)
    if bare in names:
        return 0.8
    # "name of the listing": our words are all there, beside one or two more.
    words = set(folded.split())
    beside = [
        len(known.split()) / len(words)
        for known in names
        if len(known.split()) < len(words) and set(known.split()) <= words and known not in _BARE
    ]
    subject = fold(kind.removesuffix("s"))
    bonus = 0.1 if subject in words else 0.0
    return min(0.75, 0.4 + 0.4 * max(beside) + bonus) if beside else 0.0
