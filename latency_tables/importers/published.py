"""Hashes of published latency data: only tables of these files claim its source and licence."""

OFA_NOTE10 = frozenset(
    {
        "08c833755d446cb65a6224e0fed7ef71be29709bfd2aa12009d4b645e37b4ce4",
        "0ff5ca0649e56ad34a42d6a8a6f20adb5121c8d12d135299397b310472db79e2",
        "129a4ee3f46f2b732f93c43dc04540c864adcc68e5f495ab0b183dc748fead43",
        "146c34f116ea2dd6b0a421e3b9b3b1a106ba2817c928e7c66a0b58703946f7ea",
        "2f33a119bf5d4218fd390b785d3d03fd52b3522c77f58b751ff38f01a249fbd0",
        "34223ae037d5719a5f33261bdfd9341f590a2999edf520f174309605dc06307c",
        "41aa63af766a8298354e6aa5ae69d512ac68656a6e7d0a4fa5dc725c8d438633",
        "4bb6703197777ac01483cbe6340979dc8090ed6471c3f47d4e08749e523d4c53",
        "75b0954b2fa678b5b2422b3edbc51983609a9a441d77fe4bb68888da8bb8984e",
        "80217a43dc40c8ce45b54c4cd60d58a79ee091015035f0d4388a09c192074bab",
        "94e0b62a291cc8d77a980478edc96d4ab4b6fe9b0209bc87d296bd2812ccd3d3",
        "a2671a45e9400542679ed03de946b45d6a35010f9ab21834af3e7ba8341d36d1",
        "a4c43390a41c6affec5c0d2f927cd671a7d99341dbcb0178876794d9683d8ef6",
        "bbb64c0be7b420139d92a79757923e7b4c5d8d61730a90995d1ab51f6f718939",
        "c13a9bcb3f4becae844bce4897129c4e42975984c1029cbd5acb48c970136530",
        "cacb0d9f262e1e029c39a639acb856b16d16cbd7db365056ee7bc55bbb41d417",
        "dead1205668fec983c8d7d8445d2dc3afe30a617917218becc90a8b3b8e72a57",
    }
)
"""sha256 of Once-for-all's tables of the Samsung Note10, a file a resolution (160 to 224)."""

TUNAS_PIXEL1 = frozenset({"f7c7f9036c135d46b28e25aea264e87e0ed504998b79b755e434e3420439a33b"})
"""sha256 of the coefficients of TuNAS's cost model, collected as CSV."""

NN_METER_OPERATORS = frozenset({"6ddb4a8dc951795faeae2d07312ddf698daa8e7a6a1e5d371fde9a83fdd0e1c6"})
"""sha256 of nn-Meter's measured convolutions, collected as CSV."""

NN_METER_BLOCKS = frozenset(
    {
        "1f8888a759717a452b5e082d6413ed1d32fc5669f009865e4959af7600cb00b2",
        "7c69968784a30e05d613e883e901424b68df099a6093a9d1729d0d5b9a702364",
    }
)
"""sha256 of nn-Meter's tables of blocks of Pixel 4 and Pixel 6."""
