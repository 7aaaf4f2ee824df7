"""The addresses that notices go to: whether one can be right, and what in it is secret. Pure.

An address is Apprise's: a scheme that names the service, then keys and names, e.g. `pagerduty://KEY@KEY`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

from pipeline.names import nearest
from pipeline.secrets import SHORTEST, Secret

FORM = "SCHEME://..., as Apprise writes them"
_LONG_WORD = 20
"""From this length on, in characters, a word of small letters alone is taken for a key."""
_PARTED = re.compile(r"[/?&=@:#,;\s]+")

SCHEMES = frozenset(
    """
    46elks amqp amqps apprise apprises aprs atalk azure bark barks betterstack blink1 bluesky brevo bsky bulksms
    bulkvs burstsms chanify clickatell clicksend cliq cm d7sms dapnet dbus deltachat deltachats dingtalk discord
    dot eight00com elks emby embys enigma2 enigma2s evolution evolutions exotel fcm feishu firehydrant flock
    flowtriq flowtriqs fluxer fluxers form forms freemobile gchat gio github glib gnome goalert goalerts gorush
    gorushs gotify gotifys groundmail groupme growl guilded gupshup hassio hassios httpsms humhub humhubs ifttt
    ilert incidentio infobip irc ircs jellyfin jellyfins jira join json jsons kakao kakaotalk kaleyra kavenegar
    kde klr kodi kodis kook kudosity kumulos lametric lametrics lark lauther lfg line macosx mailersend mailgun
    mailto mailtos mastodon mastodons matrix matrixs misskey misskeys mmost mmosts mobilemessage mobilemsg mqtt
    mqtts msg91 msgbird ncloud nclouds nctalk nctalks nexmo nostr notica noticas notifiarr notifico notificos
    notifyre ntfy ntfys o365 octopush onebot onebots onesignal opsgenie pagerduty pagertree parsep parseps pbul
    pinglet pinglets pingram pjet pjets plivo postmark pover prowl psafer psafers push pushdeer pushdeers pushed
    pushme pushplus pushward pushy qq qt reddit resend revolt ringc rocket rockets rsyslog ryver schan sendgrid
    sendpulse serwersms ses session sessions seven sfr signal signalgrid signals signl4 simplepush sinch slack
    smpp smpps smsc smseagle smseagles smsmanager smsmgr smstunnel smtp2go sns sogs sparkpost spike splunk
    spugpush spush squadcast stackfield strmlabs synology synologys syslog telesign telnyx tgram threema toot
    toots trigv trigvs tweet twilio twist twitter vapid viber victorops voipms vonage webex wechat wecom wecombot
    whapi whatsapp windows workflow workflows wpush wxpusher wxteams x xbmc xbmcs xmatters xml xmls xmpp xmpps
    youlmk zalo zcliq zohocliq zoom zulip
    """.split()  # noqa: SIM905 - two hundred names read better without their quotes
)
"""What Apprise speaks, so that a slip of the pen is found without loading it; a test holds this against Apprise."""


def wrong_with(address: Secret) -> str:
    """What is wrong with an address, in words that give nothing of it away; '' when nothing shows."""
    text = address.reveal()
    scheme, separator, rest = text.partition("://")
    if not separator or not rest.strip("/"):
        return f"{len(text)} characters without a scheme or without what follows it"
    if re.search(r"\s", text):
        return f"{len(text)} characters with a blank among them"
    if scheme.lower() in ("http", "https"):
        return ""  # some services' own addresses are taken as they are
    if scheme.lower() not in SCHEMES:
        guess = nearest(scheme.lower(), SCHEMES)
        named = scheme if scheme.isalnum() and len(scheme) < SHORTEST else f"of {len(scheme)} characters"
        return f"the scheme {named}, which nothing is known by" + (f"; did you mean {guess}://?" if guess else "")
    return ""


def secrets_in(address: Secret) -> tuple[Secret, ...]:
    """The keys and passwords in an address, each a secret of its own: names of hosts and channels are none."""
    rest = address.reveal().partition("://")[2] or address.reveal()
    found = [*_passwords(rest), *(part for part in _PARTED.split(rest) if _looks_secret(part))]
    return tuple(Secret(part) for part in dict.fromkeys([*found, *map(unquote, found)]) if len(part) >= SHORTEST)


def hide(text: str, address: Secret) -> str:
    """`text` without any part of the address, however short: for what was said while it was used."""
    rest = address.reveal().partition("://")[2]
    parts = {part for part in _PARTED.split(rest) if len(part) >= 4 and not _is_host(part)} | {*_passwords(rest)} - {""}
    for part in sorted({*parts, *map(unquote, parts)}, key=len, reverse=True):
        text = text.replace(part, "[redacted]")
    return text


def _passwords(rest: str) -> Iterator[str]:
    """What stands between `:` and `@` before the first `/`."""
    user, at, _host = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")
    if at and ":" in user:
        yield user.partition(":")[2]


def _looks_secret(part: str) -> bool:
    if len(part) < SHORTEST or _is_host(part):
        return False
    return len(part) >= _LONG_WORD or bool(re.search(r"[0-9A-Z%]", part))


def _is_host(part: str) -> bool:
    """A host's name or address, which is in every text that names the host."""
    return bool(re.fullmatch(r"(\d{1,3}\.){3}\d{1,3}|localhost|([a-z0-9-]+\.)+[a-z]{2,}", part, re.IGNORECASE))
