"""Bodies as the vendors' SDKs send them, and every body form of Encharge."""

TELEMETRYDECK = {
    "swift": b'[{"receivedAt":"2026-06-05T10:11:12+0000","appID":"A1B2","clientUser":"787d","sessionID":"0D3B",'
    b'"type":"Database.updated","floatValue":3.5,"payload":{"platform":"macOS","isDebug":"false"},"isTestMode":"false"}]',
    "kotlin": b'[{"receivedAt":"2026-06-12T10:11:12.123Z","appID":"a1","clientUser":"787d","sessionID":null,'
    b'"type":"Database.updated","payload":["numberOfEntries:3831","TelemetryDeck.SDK.nameAndVersion:KotlinSDK 7.0.0"],'
    b'"isTestMode":"false","floatValue":null}]',
    "javascript": b'[{"clientUser":"c05d","sessionID":"255s0","appID":"foo","type":"test",'
    b'"telemetryClientVersion":"JavaScriptSDK 2.0.4","receivedAt":"2026-06-05T10:11:12.123Z","isTestMode":true,'
    b'"payload":{"floatValue":0.4,"objectValue":"{\\"foo\\":\\"bar\\"}"}}]',
    "go": b'[{"appID":"1F","clientUser":"c05d","sessionID":"7b1c","isTestMode":true,"type":"Ns.testSignal",'
    b'"payload":{"Ns.someInt":42,"Ns.someBool":true}}]',
    "python": b'[{"appID": "app_id", "clientUser": "client_user", "type": "signal_type", "isTestMode": "true", '
    b'"sessionID": "s", "payload": {"pay": "load"}}]',
    "nobody": b'[{"appID":"a","clientUser":"","type":"t"}]',
}

ENCHARGE = {
    "event": b'{"name":"Signed up","user":{"email":"a@example.com","userId":7},"properties":{"plan":{"nested":[1]}},'
    b'"sourceIp":"192.0.2.1"}',
    "person": b'{"name":"identify","user":{"email":"a@example.com","tags":"one,two","ip":"192.0.2.1"}}',
    "alias": b'{"previousUserId":"old","user":{"userId":"new"}}',
    "alias by mail": b'{"name":"alias","previousEmail":"old@example.com","user":{"email":"new@example.com"}}',
    "group": b'{"type":"group","objectType":"company","properties":{"externalId":"c1"}}',
    "segment track": b'{"type":"track","event":"Signed up","userId":"u1","timestamp":"2026-06-05T10:11:12Z",'
    b'"messageId":"m1","context":{"library":{"name":"x"}}}',
    "segment identify": b'{"type":"identify","userId":12,"traits":{"plan":"pro"}}',
}
