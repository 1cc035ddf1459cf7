"""Names that columns of interactions have in public data, by what they hold."""

import re

ROLES: dict[str, tuple[str, ...]] = {
    "user": (
        *("userid", "uid", "customerid", "reviewerid", "visitorid", "profileid", "memberid", "accountid", "personid"),
        *("clientid", "buyerid", "consumerid", "shopperid", "subscriberid", "householdid", "playerid", "steamid"),
        *("readerid", "listenerid", "viewerid", "studentid", "learnerid", "patronid", "borrowerid", "guestid"),
        *("travelerid", "raterid", "patientid", "cookieid", "deviceid", "fullvisitorid", "msno"),
        *("user", "users", "username", "customer", "reviewer", "reviewername", "visitor", "member", "client", "buyer"),
        *("consumer", "shopper", "subscriber", "household", "player", "person", "listener", "viewer", "rater"),
        *("sessionid", "session"),
    ),
    "item": (
        *("itemid", "iid", "movieid", "sid", "productid", "asin", "parentasin", "articleid", "trackid", "songid"),
        *("bookid", "isbn", "gameid", "animeid", "recipeid", "businessid", "videoid", "newsid", "artistid", "placeid"),
        *("skuid", "sku", "stockid", "goodsid", "goodid", "upc", "ean", "gtin", "barcode", "merchandiseid", "offerid"),
        *("albumid", "musicid", "podcastid", "playlistid", "filmid", "showid", "titleid", "seriesid", "mangaid"),
        *("appid", "contentid", "documentid", "docid", "paperid", "postid", "storyid", "courseid", "questionid"),
        *("problemid", "jobid", "restaurantid", "hotelid", "venueid", "poiid", "locationid", "listingid", "propertyid"),
        *("beerid", "beerbeerid", "wineid", "gmapid", "adid", "urlid", "entityid", "objectid", "workid", "dishid"),
        *("item", "items", "movie", "product", "article", "track", "song", "book", "game", "anime", "artist", "album"),
        *("film", "video", "place", "restaurant", "hotel", "venue", "business", "recipe", "beer", "wine", "app"),
        *("course", "podcast", "show", "dish", "itemname", "productname", "moviename", "gamename", "trackname"),
        "artistname",
    ),
    "rating": (
        *(
            "rating",
            "ratings",
            "score",
            "scores",
            "stars",
            "star",
            "overall",
            "bookrating",
            "userrating",
            "ratingvalue",
        ),
        *("ratingscore", "reviewrating", "reviewscore", "reviewoverall", "starrating", "itemrating", "myrating"),
        *("userscore", "preference", "label", "liked", "like", "islike", "clicked", "click", "isclick", "feedback"),
    ),
    "time": (
        *("timestamp", "time", "ts", "unixtime", "unixreviewtime", "datetime", "date", "createdat", "eventtime"),
        *("timestamps", "epoch", "unixtimestamp", "eventtimestamp", "eventdate", "ratingtime", "ratedat", "ratingdate"),
        *("reviewtime", "reviewdate", "reviewtimestamp", "orderdate", "ordertime", "purchasedate", "purchasetime"),
        *("purchasedat", "orderedat", "transactiondate", "transactiontime", "invoicedate", "saledate", "tdat"),
        *("createtime", "createdtime", "createddate", "creationdate", "datecreated", "addedat", "dateadded"),
        *("visitdate", "visittime", "visitedat", "clicktime", "clickedat", "viewedat", "watchedat", "playedat"),
        *("listenedat", "submitteddate", "submittedat", "submitted", "utctime", "checkintime", "readat"),
    ),
    "event": (
        *("event", "eventtype", "action", "actiontype", "behavior", "behaviour", "behaviortype", "behaviourtype"),
        *("interaction", "interactiontype", "reaction", "label", "liked", "like", "islike", "feedback"),
    ),
}
"""Names of columns by what they hold, in lower case, letters only; of several, the first named here counts.

An identifier comes before the name of what it identifies: `user_id` before `user`. What may be a rating or the kind of
an event, such as `label`, is a rating where it holds numbers. The ways to say identifier are one: CUSTOMER_NO,
id_customer and customerKey are read as customer_id (`standing`).
"""
_IDENTIFIER = re.compile(r"(?:ids|identifier|number|num|nbr|nr|no|key|(?<!post)code|hash|uuid|guid)$")


def role_of(column: str) -> str | None:
    return next((role for role in ROLES if standing(column, role) is not None), None)


def standing(column: str, role: str) -> int | None:
    """The place of a column's name among those of a role, None where it is none of them."""
    known, name = ROLES[role], normal(column)
    names = [name, _IDENTIFIER.sub("id", name)]
    if name.startswith("id"):
        names.append(name[2:] + "id")
    return next((known.index(name) for name in names if name in known), None)


def normal(column: str) -> str:
    """`user_id:token` and `userId` are both `userid`."""
    return re.sub(r"[^a-z]", "", column.split(":")[0].lower())
